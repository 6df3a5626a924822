//! A shell in a jail: chroot into an empty directory, nobody's ids, limits, no
//! new privileges, and a seccomp allow-list. No helper program and no hook: all
//! of it is steps of the plan, which is printed.
//!
//! What is forbidden in there is tried twice, outside and inside, so that one
//! sees what the jail is good for. Linux (x86-64, aarch64), and needs root; else
//! it says so and ends with 77, as test harnesses have it for "skipped".

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use forkplan::Channel::{Null, ReadPipe};
use forkplan::{Command, Exit, FilterInstruction, OnDrop, Resource, Signal};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const NOBODY: u32 = 65534;
const SKIPPED: u8 = 77;

/// What a shell can do outside, and what it tells of. Each is a failure inside.
const FORBIDDEN: [(&str, &str); 5] = [
    ("read a file that is outside", "read line < /etc/passwd"),
    ("write into the root directory", "echo text > ./file"),
    ("raise a limit", "ulimit -n 17"),
    ("signal the program that made the jail", "kill -0 $PPID"),
    ("fork", "/bin/sh -c :; exit $?"),
];

fn main() -> ExitCode {
    let outcome = match filter() {
        None => Err("there is no list of syscalls for this architecture"),
        Some(_) if !rustix::process::geteuid().is_root() => {
            Err("chroot and a change of ids need root, which we are not")
        }
        Some(filter) => Ok(filter),
    };
    match outcome.map(|filter| session(&filter)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("jail: {error}");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("jail: SKIPPED: {why}");
            ExitCode::from(SKIPPED)
        }
    }
}

fn session(filter: &[FilterInstruction]) -> Result<()> {
    let root = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir()?;
    let root = root.path();
    for path in ["/bin/sh", "/usr/bin/id"] {
        furnish(root, Path::new(path))?;
    }

    let mut id = program("/usr/bin/id");
    restrict(&mut id, root, filter);
    println!("The plan:\n{}", id.prepare()?.open()?.plan());
    expect("id", run(&id)?, |said| said.starts_with("uid=65534 gid=65534 groups=65534"))?;

    let mut shell = program("/bin/sh");
    shell.args(["-c", "echo /*; pwd; umask; ulimit -n; ulimit -c"]);
    restrict(&mut shell, root, filter);
    let expected = |said: &str| said.contains(" /usr\n/\n0077\n16\n0\n");
    expect("the shell", run(&shell)?, expected)?;

    for (what, script) in FORBIDDEN {
        let mut outside = program("/bin/sh");
        outside.args(["-c", script]).current_dir(root);
        let (exit, said) = run(&outside)?;
        if !exit.success() {
            return Err(format!("outside, to {what} should work: {said}{exit}").into());
        }
        let mut inside = program("/bin/sh");
        inside.args(["-c", script]);
        restrict(&mut inside, root, filter);
        let (exit, said) = run(&inside)?;
        println!("{what}: works outside; in the jail: {exit}, {}", said.trim_end());
        if exit.success() {
            return Err(format!("the jail lets it {what}").into());
        }
    }
    Ok(())
}

/// The jail. In what order this is done, the plan says: the root and the limits
/// while there are privileges to do so, the filter last.
fn restrict(command: &mut Command<'_>, root: &Path, filter: &[FilterInstruction]) {
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .setsid()
        .chroot(root)
        .chdir("/")
        .umask(0o077)
        .uid(NOBODY)
        .gid(NOBODY)
        .groups([])
        .rlimit(Resource::NOFILE, 16, 16)
        .rlimit(Resource::CORE, 0, 0)
        .rlimit(Resource::CPU, 5, 5)
        .rlimit(Resource::AS, 256 << 20, 256 << 20)
        .nice(10)
        .parent_death_signal(Signal::KILL)
        .no_new_privs()
        .seccomp(filter.iter().copied());
}

fn program(path: &str) -> Command<'static> {
    let mut command = Command::new(path);
    command.fd(0, Null).fds([1, 2], ReadPipe).on_drop(OnDrop::Kill);
    command
}

/// What it says on 1 and 2, and how it ends.
fn run(command: &Command<'_>) -> Result<(Exit, String)> {
    let mut child = command.spawn()?;
    let reader = child.take(1).ok_or("no read end")?;
    let said = std::io::read_to_string(fs::File::from(reader))?;
    Ok((child.wait()?, said))
}

fn expect(who: &str, (exit, said): (Exit, String), so: impl Fn(&str) -> bool) -> Result<()> {
    print!("{who} says:\n{said}");
    match exit.success() && so(&said) {
        true => Ok(()),
        false => Err(format!("{who} should have said something else, {exit}").into()),
    }
}

/// Copies a program into the jail, and the libraries that it needs.
fn furnish(root: &Path, path: &Path) -> Result<()> {
    let mut ldd = program("ldd");
    ldd.arg(path);
    // A static program has none: ldd says so, and fails.
    let (_, said) = run(&ldd)?;
    let libraries = said.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.map(Path::new).chain([path]) {
        let copy: PathBuf = root.join(file.strip_prefix("/")?);
        if let Some(directory) = copy.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::copy(file, copy)?;
    }
    Ok(())
}

/// The numbers of what a small program may call, and what the child calls on
/// its way there: `rt_sigprocmask`, `execve`, and `exit_group` if it fails.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_chdir,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getuid,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_read,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_statfs,
    libc::SYS_umask,
    libc::SYS_write,
    libc::SYS_writev,
];

/// What only older architectures have, and their libcs call.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] =
    &[libc::SYS_access, libc::SYS_arch_prctl, libc::SYS_dup2, libc::SYS_open, libc::SYS_stat];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// The allow-list as the kernel reads it: a program that looks at `struct
/// seccomp_data` and returns a verdict. What is not on the list is `EPERM`.
fn filter() -> Option<Vec<FilterInstruction>> {
    // `AUDIT_ARCH_*`. The numbers of another architecture's calls mean others.
    let arch = match std::env::consts::ARCH {
        "x86_64" => 0xc000_003e,
        "aarch64" => 0xc000_00b7,
        _ => return None,
    };
    // Where the number and the architecture are in `struct seccomp_data`.
    let (nr_at, arch_at) = (0, 4);
    let instruction = |code: u32, jt, jf, k| FilterInstruction { code: code as u16, jt, jf, k };
    let load = |at| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    // Goes on with the next if equal, else with the one after it.
    let if_equal = |value| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, value);
    let verdict = |verdict| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, verdict);

    let mut filter = vec![load(arch_at)];
    // Over the verdict if it is ours.
    filter.push(FilterInstruction { jt: 1, jf: 0, ..if_equal(arch) });
    filter.push(verdict(libc::SECCOMP_RET_KILL_PROCESS));
    filter.push(load(nr_at));
    for &number in ALLOWED.iter().chain(ALLOWED_HERE) {
        filter.push(if_equal(number as u32));
        filter.push(verdict(libc::SECCOMP_RET_ALLOW));
    }
    filter.push(verdict(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    Some(filter)
}
