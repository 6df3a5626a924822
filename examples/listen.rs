//! A server that is given its listening sockets as systemd gives them: on fds
//! from 3 on, with their names in `LISTEN_FDNAMES`, how many in `LISTEN_FDS`,
//! and for whom in `LISTEN_PID`. `sd_listen_fds(3)`.
//!
//! Without arguments: binds two sockets to 127.0.0.1, starts the server (this
//! program again) and is a client of both. Then the server is started by a shell,
//! so that it is not the process that the sockets were given to: it refuses them.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use forkplan::{Channel, Command, Inherited, OnDrop};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the server ends with when the sockets are not for it.
const NOT_OURS: i32 = 3;

fn main() -> ExitCode {
    let server = env::args().nth(1).as_deref() == Some("server");
    let outcome = if server { serve() } else { start() };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("listen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<ExitCode> {
    let echo = TcpListener::bind("127.0.0.1:0")?;
    let upper = TcpListener::bind("127.0.0.1:0")?;
    let program = env::current_exe()?;

    let mut command = Command::new(&program);
    command
        .arg("server")
        .fd(0, Channel::Null)
        .fd(1, Channel::stdout())
        .fd(2, Channel::stderr())
        .listen_fds([("echo", Channel::borrowed(&echo)), ("upper", Channel::borrowed(&upper))])
        .on_drop(OnDrop::Kill);
    let mut prepared = command.prepare()?;
    let opened = prepared.open()?;
    println!("The plan:\n{}", opened.plan());
    let mut server = opened.spawn()?;
    println!("client: the server is process {}", server.id().unwrap_or_default());
    let replies = [ask(echo.local_addr()?)?, ask(upper.local_addr()?)?];
    for reply in &replies {
        println!("client: {reply:?}");
    }
    let exit = server.wait()?;
    println!("client: the server's {exit}");
    if replies != ["Hello, sockets", "HELLO, SOCKETS"] || !exit.success() {
        return Err("that is not what the server should have said".into());
    }

    // The shell is the process that is named; what it starts is another.
    let mut command = Command::new("sh");
    command
        .args(["-c", "\"$0\" server; exit $?"])
        .arg(&program)
        .fd(0, Channel::Null)
        .fd(1, Channel::stdout())
        .fd(2, Channel::stdout())
        .listen_fds([("echo", Channel::borrowed(&echo))])
        .on_drop(OnDrop::Kill);
    match command.spawn()?.wait()?.code() {
        Some(NOT_OURS) => Ok(ExitCode::SUCCESS),
        other => Err(format!("a stranger took the sockets: {other:?}").into()),
    }
}

/// One line there and back.
fn ask(server: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"Hello, sockets")?;
    stream.shutdown(Shutdown::Write)?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}

/// One client on each socket, in what order soever they were given.
fn serve() -> Result<ExitCode> {
    // SAFETY: `main` has opened nothing before, and nobody else takes these fds.
    let sockets = unsafe { Inherited::new() }?.listen_fds()?;
    if sockets.is_empty() {
        println!("server {}: these sockets are for somebody else", std::process::id());
        return Ok(ExitCode::from(NOT_OURS as u8));
    }
    for (name, fd) in sockets {
        let listener = TcpListener::from(fd);
        println!("server {}: {name:?} is {}", std::process::id(), listener.local_addr()?);
        let (mut client, _) = listener.accept()?;
        let mut line = String::new();
        BufReader::new(&client).read_line(&mut line)?;
        if name == "upper" {
            line.make_ascii_uppercase();
        }
        client.write_all(line.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
