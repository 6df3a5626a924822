//! How many syscalls each contender makes, as strace counts them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use forkplan_benches::program::{Does, Program};
use forkplan_benches::record::{Place, Record, directory};

use crate::contenders;
use crate::load::Early;
use crate::options::Options;
use crate::sample::MARK;

/// Spawns of each, of which the one with the fewest calls counts: a parent may be
/// let go a moment too early and look twice.
const ROUNDS: usize = 5;

#[derive(Clone, Copy)]
struct Counts {
    parent: usize,
    child: usize,
}

pub fn run(options: &Options) -> io::Result<()> {
    let program = Program::build(Does::Nothing);
    let out = directory(options.out.clone(), options.quick);
    let mut record = Record::open(out.as_deref(), "syscalls", false)?;
    let names: Vec<&str> = contenders::all(&program, options.channels, &Arc::new(Early::open()?))
        .iter()
        .map(|c| c.name)
        .collect();
    println!("{:40} {:>8} {:>8}", "syscalls, spawn to last close", "parent", "child");
    for name in names {
        let Some(Counts { parent, child }) = count(name, options, program.path())? else {
            println!("SKIPPED: there is no strace");
            return Ok(());
        };
        println!("{name:40} {parent:>8} {child:>8}");
        for (figure, count) in [("parent", parent), ("child", child)] {
            let (axis, x) = ("channels", options.channels.pipes().len() as u64);
            let at = Place { part: "syscalls", axis, x, contender: name, figure, unit: "count" };
            record.count(at, count as u64);
        }
    }
    Ok(())
}

fn count(name: &str, options: &Options, program: &Path) -> io::Result<Option<Counts>> {
    let dir = std::env::temp_dir().join(format!("forkplan-syscalls-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let mut strace = Command::new("strace");
    strace.args(["-ff", "-qq", "-a1", "-o"]).arg(dir.join("trace")).arg("--");
    strace.arg(std::env::current_exe()?).args(["--quick", "--marks", "--only", name]);
    strace.args(["--rounds", &ROUNDS.to_string(), "--program"]).arg(program);
    strace.args(["--channels", &format!("{:?}", options.channels).to_lowercase()]);
    // What whoever started this bench had it ignore (glibc's `posix_spawn` leaves a
    // real-time signal so) is reset by our children, a call for each.
    // SAFETY: syscalls, which read one of the kernel's sigactions.
    unsafe { strace.pre_exec(ignore_nothing) };
    let output = match strace.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        output => output?,
    };
    let mut traces = BTreeMap::new();
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        let pid = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        traces.insert(pid, fs::read_to_string(&path)?);
    }
    fs::remove_dir_all(&dir)?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let mark = format!("getpgid({MARK}) = ");
    let parent = traces.values().find(|trace| trace.contains(&mark));
    let parent = parent.ok_or_else(|| io::Error::other("no mark in the trace"))?;
    // Three marks a spawn, and two spawns a round.
    let places: Vec<&str> = parent.split(&mark).collect();
    let spawns = places[1..].chunks_exact(3);
    let parent = spawns.map(|part| calls(part[0]) + calls(part[1])).min().unwrap_or(0);
    let exec = format!("execve({:?}", program.display().to_string());
    let before = traces.values().filter_map(|trace| Some(trace.split_once(&exec)?.0));
    // Exec, and the program's own end.
    let child = before.map(|before| calls(before) + 2).min().unwrap_or(0);
    Ok(Some(Counts { parent, child }))
}

/// Lines that are syscalls: not signals, nor the rest of a mark.
fn calls(trace: &str) -> usize {
    trace.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())).count()
}

fn ignore_nothing() -> io::Result<()> {
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the kernel reads the action. Two signals have no other.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, 0usize, 8usize)
        };
    }
    Ok(())
}
