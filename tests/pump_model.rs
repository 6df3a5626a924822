//! Random lives: a child that writes, closes and exits as a script says, and
//! a caller who writes, closes, pauses and signals as the dice say. Whatever
//! happens, the promises of `Event` hold and no byte is lost or made up.

#[path = "support/pump.rs"]
mod support;

use core::fmt::Write;
use std::collections::BTreeMap;

use forkplan::{Channel, ChannelError, ChildKey, CloseReason, Command, Features, Signal};
use support::{Driver, Random, Seen};

/// What the child is told to do, and so what has to come of it.
struct Script {
    text: String,
    /// Bytes written to each fd that the parent reads from.
    writes: BTreeMap<i32, usize>,
    code: i32,
}

/// `head` writes, so that a SIGPIPE ends it and not the shell.
fn script(random: &mut Random) -> Script {
    let mut writes = BTreeMap::from([(1, 0), (2, 0), (3, 0)]);
    let mut text = String::new();
    let mut open = vec![1, 2, 3];
    for _ in 0..random.below(6) {
        let step = random.below(4);
        match step {
            0 => {
                let len = random.pick(&[1, 1000, 65_536]);
                // Ends when it has got that much, or all there is.
                writeln!(text, "head -c {len} >/dev/null").unwrap();
            }
            1 if !open.is_empty() => {
                let fd = open.swap_remove(random.below(open.len()));
                writeln!(text, "exec {fd}>&-").unwrap();
            }
            _ if !open.is_empty() => {
                let (fd, len) = (random.pick(&open), random.pick(&[1, 300, 70_000, 200_000]));
                writeln!(text, "head -c {len} /dev/zero >&{fd} 2>/dev/null").unwrap();
                *writes.get_mut(&fd).unwrap() += len;
            }
            _ => {}
        }
    }
    let code = random.below(100) as i32;
    writeln!(text, "exit {code}").unwrap();
    Script { text, writes, code }
}

/// What we have done to a child.
#[derive(Default)]
struct Done {
    closed: Vec<i32>,
    signaled: bool,
    /// Bytes taken for each fd that we write to.
    taken: BTreeMap<i32, usize>,
    /// Channels whose last write was not taken whole.
    refused: Vec<i32>,
}

fn act(random: &mut Random, driver: &mut Driver, key: ChildKey, done: &mut Done) {
    let fd = random.pick(&[0, 1, 2, 3]);
    let pump = &mut driver.pump;
    let ended = pump.child(key).is_none();
    let result = match random.below(9) {
        0..=2 => {
            let bytes = vec![b'w'; random.pick(&[1, 500, 50_000, 200_000])];
            let taken = pump.write(key, fd, &bytes);
            if let Ok(taken) = taken {
                assert!(pump.queued(key, fd).unwrap() <= 65_536);
                *done.taken.entry(fd).or_default() += taken;
                if taken < bytes.len() {
                    done.refused.push(fd);
                }
            }
            taken.map(drop)
        }
        3 => pump.pause(key, fd),
        4 => pump.resume(key, fd),
        5 => pump.close_write(key, fd),
        6 if random.below(3) == 0 => {
            done.closed.push(fd);
            pump.close(key, fd)
        }
        7 if random.below(4) == 0 => {
            let signal = random.pick(&[Signal::KILL, Signal::TERM, Signal::HUP]);
            done.signaled |= pump.signal(key, signal).is_ok();
            Ok(())
        }
        _ => Ok(()),
    };
    match result {
        Ok(()) | Err(ChannelError::Closed | ChannelError::NotWritable) => {}
        Err(ChannelError::NotReadable) => assert_eq!(fd, 0),
        Err(ChannelError::NoChild) => assert!(ended),
        Err(error) => panic!("{error}"),
    }
}

fn compare(driver: &Driver, key: ChildKey, script: &Script, done: &Done) {
    let seen: Vec<_> = driver.of(key).collect();
    let told = format!("{}\n-> {} events", script.text, seen.len());
    let exit = driver.exit(key).unwrap();
    if !done.signaled {
        assert_eq!(exit.code(), Some(script.code), "{told}");
    }
    for (&fd, &wrote) in &script.writes {
        let got = driver.data(key, &fd.to_string()).len();
        assert!(got <= wrote, "{got} of {wrote} bytes from {fd}: {told}");
        if !done.signaled && !done.closed.contains(&fd) {
            assert_eq!(got, wrote, "from {fd}: {told}");
        }
    }
    for fd in 0..4 {
        let (reason, unsent) = driver.closed(key, &fd.to_string()).expect("each is closed");
        assert!(matches!(reason, CloseReason::Peer | CloseReason::Us), "{reason:?}: {told}");
        let taken = done.taken.get(&fd).copied().unwrap_or(0);
        assert!(unsent <= taken, "{unsent} of {taken} bytes unsent to {fd}: {told}");
        let halves = driver.of(key).filter(|s| **s == Seen::HalfClosed(fd.to_string())).count();
        assert!(halves <= usize::from(fd == 3), "{told}");
        let notices = driver.of(key).filter(|s| **s == Seen::Drained(fd.to_string())).count();
        let refusals = done.refused.iter().filter(|&&refused| refused == fd).count();
        assert!(notices <= refusals, "{notices} notices for {refusals} refusals: {told}");
    }
}

fn live(random: &mut Random) {
    let mut driver = Driver::new();
    let mut children = Vec::new();
    for _ in 0..1 + random.below(3) {
        let script = script(random);
        let mut command = Command::new("sh");
        command.args(["-c", &script.text]).fd(0, Channel::WritePipe).fd(1, Channel::ReadPipe);
        command.fd(2, Channel::ReadPipe).fd(3, Channel::SocketPair);
        command.without(random.pick(&[
            Features::empty(),
            Features::empty(),
            Features::PIDFD,
            Features::SHARED_MEMORY,
        ]));
        children.push((driver.add(&mut command), script, Done::default()));
    }
    for _ in 0..random.below(30) {
        let one = random.below(children.len());
        let (key, _, done) = &mut children[one];
        act(random, &mut driver, *key, done);
        match random.below(4) {
            0 => driver.drain(),
            1 => drop(driver.pump.poll(Some(core::time::Duration::from_millis(1))).unwrap()),
            2 => {
                if let Some(event) = driver.pump.next_event() {
                    driver.log.push(support::owned(event));
                }
            }
            _ => {}
        }
    }
    // What waits for us goes on.
    for (key, ..) in &children {
        let gone = [Ok(()), Err(ChannelError::NoChild)];
        assert!(gone.contains(&driver.pump.resume_all(*key)));
        assert!(gone.contains(&driver.pump.close_write(*key, 0)));
    }
    driver.finish();
    for (key, script, done) in &children {
        compare(&driver, *key, script, done);
    }
}

#[test]
fn random_lives_keep_the_promises() {
    let mut random = Random::new();
    for _ in 0..75 {
        live(&mut random);
    }
}

#[test]
fn other_random_lives_at_the_same_time_too() {
    let mut random = Random::new();
    for _ in 0..75 {
        live(&mut random);
    }
}
