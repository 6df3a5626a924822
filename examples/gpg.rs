//! The decryption of Twisted's process how-to, with the real gpg: the passphrase
//! goes in on fd 3, status lines come out on fd 4, the plaintext on 1; stderr is
//! ours. In a home directory of its own, which is gone afterwards.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::str;

use forkplan::Channel::{ReadPipe, WritePipe};
use forkplan::{Command, Event, Name, Pump};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PASSPHRASE: &str = "correct horse battery staple";
const USER: &str = "alice@example.org";
const PLAINTEXT: &[u8] = b"Attack at dawn.\n";

fn main() -> Result<()> {
    let private = Permissions::from_mode(0o700);
    let home = tempfile::Builder::new().permissions(private).tempdir()?;
    let outcome = session(home.path());
    // The agent that gpg has started for this home.
    let mut stop = Command::new("gpgconf");
    stop.arg("--homedir").arg(home.path()).args(["--kill", "all"]);
    talk(&mut stop, &[])?;
    outcome
}

fn session(home: &Path) -> Result<()> {
    println!("Making a key for {USER}...");
    let mut make_key = gpg(home);
    make_key.args(["--quiet", "--quick-gen-key", USER, "default", "default", "never"]);
    talk(&mut make_key, &[(3, PASSPHRASE.as_bytes())])?;

    println!("Encrypting {} bytes...", PLAINTEXT.len());
    let mut encrypt = gpg(home);
    encrypt.args(["--quiet", "--trust-model", "always", "--encrypt", "--recipient", USER]);
    let crypttext = talk(&mut encrypt, &[(0, PLAINTEXT), (3, b"")])?.stdout;

    println!("Decrypting {} bytes...", crypttext.len());
    let mut decrypt = gpg(home);
    decrypt.args(["--quiet", "--decrypt"]);
    let inputs: [(i32, &[u8]); 2] = [(3, PASSPHRASE.as_bytes()), (0, &crypttext)];
    let decrypted = talk(&mut decrypt, &inputs)?;

    for line in str::from_utf8(&decrypted.status)?.lines() {
        println!("status: {line}");
    }
    println!("plaintext: {}", str::from_utf8(&decrypted.stdout)?.trim_end());
    if decrypted.stdout != PLAINTEXT {
        return Err("this is not what was encrypted".into());
    }
    if !str::from_utf8(&decrypted.status)?.contains("[GNUPG:] DECRYPTION_OKAY") {
        return Err("the status does not say that it was decrypted".into());
    }
    Ok(())
}

/// gpg with the how-to's map: `{0: "w", 1: "r", 2: 2, 3: "w", 4: "r"}`.
fn gpg(home: &Path) -> Command<'static> {
    let mut command = Command::new("gpg");
    command
        .arg("--homedir")
        .arg(home)
        .args(["--batch", "--pinentry-mode", "loopback", "--no-tty"])
        .args(["--passphrase-fd", "3", "--status-fd", "4"])
        .fd(0, WritePipe)
        .fd(1, ReadPipe)
        .fd(2, std::io::stderr())
        .fd(3, WritePipe)
        .fd(4, ReadPipe);
    command
}

#[derive(Default)]
struct Said {
    stdout: Vec<u8>,
    status: Vec<u8>,
}

/// Runs a program, writes each input to its fd and closes it, and collects what
/// it says. What it is not given is closed at once.
fn talk(command: &mut Command<'_>, inputs: &[(i32, &[u8])]) -> Result<Said> {
    let mut pump = Pump::new();
    let child = pump.add(command.spawn()?);
    for fd in [0, 3] {
        for (_, bytes) in inputs.iter().filter(|(to, _)| *to == fd) {
            let taken = pump.write(child, fd, bytes)?;
            assert_eq!(taken, bytes.len(), "all of it is shorter than the queue");
        }
        // gpgconf has no fd 3.
        let _ = pump.close(child, fd);
    }
    let mut said = Said::default();
    let mut outcome = None;
    while !pump.is_empty() {
        pump.poll(None)?;
        while let Some(event) = pump.next_event() {
            match event {
                Event::Data { channel: Name::Fd(1), bytes, .. } => {
                    said.stdout.extend_from_slice(bytes);
                }
                Event::Data { channel: Name::Fd(4), bytes, .. } => {
                    said.status.extend_from_slice(bytes);
                }
                Event::Ended { exit, .. } => outcome = Some(exit),
                _ => {}
            }
        }
    }
    match outcome {
        Some(exit) if exit.success() => Ok(said),
        Some(exit) => Err(format!("{:?}: {exit}", command.get_program()).into()),
        None => Err("the program did not end".into()),
    }
}
