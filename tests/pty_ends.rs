//! Every way in which a terminal's use ends, on each number of fds, controlling
//! or not, on shared and on copied memory: generated, not written out.

#![cfg(target_os = "linux")]

#[path = "support/pump.rs"]
mod support;

use forkplan::Channel::{Null, ReadPipe, WritePipe};
use forkplan::{ChildKey, CloseReason, Command, Features, Pty, Signal};
use support::{Driver, Orphan};

/// What happens to a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// The program writes and ends.
    Read,
    /// The program reads what we write.
    Write,
    /// We close it while the program lives.
    ClosedByUs,
    /// The program closes it and lives on.
    ClosedByChild,
    /// The program ends at once and says nothing.
    EndsAtOnce,
    /// The program ends, and another process has the terminal.
    Left,
}

const CASES: [Case; 6] =
    [Case::Read, Case::Write, Case::ClosedByUs, Case::ClosedByChild, Case::EndsAtOnce, Case::Left];

const FDS: [&[i32]; 7] = [&[0], &[4], &[0, 1], &[1, 2], &[3, 5], &[0, 1, 2], &[2, 4, 6]];

/// The fds of the pipes beside it.
const SAID: i32 = 8;
const TOLD: i32 = 9;

impl Case {
    fn script(self, fds: &[i32]) -> String {
        let (first, last) = (fds[0], fds[fds.len() - 1]);
        let close: String = fds.iter().map(|fd| format!(" {fd}>&-")).collect();
        match self {
            Self::Read => format!("echo out >&{last}"),
            Self::Write => format!("read -r x <&{first}; echo \"$x\" >&{SAID}"),
            Self::ClosedByUs => {
                format!("echo ready >&{SAID}; read -r x <&{TOLD}; echo told >&{SAID}")
            }
            Self::ClosedByChild => {
                format!("trap '' HUP; exec{close}; read -r x <&{TOLD}; echo told >&{SAID}")
            }
            Self::EndsAtOnce => "exit 0".into(),
            Self::Left => {
                // Of the pipes it has none. A shell gives `/dev/null` as their 0 to
                // who is left, so it has the terminal on 7.
                let left = format!("sleep 1000 {SAID}>&- {TOLD}<&-");
                format!("trap '' HUP; exec 7<&{first}; {left} & echo $! >&{SAID}")
            }
        }
    }

    fn check(self, driver: &mut Driver, key: ChildKey, controlling: bool) {
        let closed = |driver: &Driver| driver.closed(key, "terminal");
        match self {
            Self::Read | Self::EndsAtOnce => driver.finish(),
            Self::Write => {
                driver.pump.write(key, "terminal", b"in\n").unwrap();
                driver.finish();
                assert_eq!(driver.data(key, "8"), b"in\n");
            }
            Self::ClosedByUs => {
                driver.until(|driver| driver.data(key, "8") == b"ready\n");
                driver.pump.close(key, "terminal").unwrap();
                if !controlling {
                    driver.pump.write(key, TOLD, b"\n").unwrap();
                }
                driver.finish();
                // Who is controlled by it is hung up on.
                let exit = driver.exit(key).unwrap();
                let signal = controlling.then_some(Signal::HUP);
                assert_eq!((exit.signal(), exit.success()), (signal, !controlling));
                assert_eq!(driver.data(key, "8").ends_with(b"told\n"), !controlling);
            }
            Self::ClosedByChild => {
                driver.until(|driver| closed(driver).is_some());
                assert_eq!(driver.exit(key), None);
                driver.pump.write(key, TOLD, b"\n").unwrap();
                driver.finish();
                assert_eq!(driver.data(key, "8"), b"told\n");
            }
            Self::Left => {
                driver.until(|driver| {
                    driver.exit(key).is_some() && driver.closed(key, "8").is_some()
                });
                assert_eq!(closed(driver), None);
                let left = String::from_utf8(driver.data(key, "8")).unwrap();
                drop(Orphan(left.trim().parse().unwrap()));
                driver.finish();
            }
        }
        let by_us = self == Self::ClosedByUs;
        let reason = if by_us { CloseReason::Us } else { CloseReason::Peer };
        assert_eq!(closed(driver), Some((reason, 0)));
        if !by_us {
            assert!(driver.exit(key).unwrap().success());
        }
        let expected: &[u8] = if self == Self::Read { b"out\r\n" } else { b"" };
        assert_eq!(driver.data(key, "terminal"), expected);
    }
}

#[test]
fn every_end_of_a_terminal_on_every_fds_is_told() {
    let mut count = 0;
    for without in [Features::empty(), Features::SHARED_MEMORY] {
        for (fds, case) in FDS.iter().flat_map(|fds| CASES.map(|case| (*fds, case))) {
            for controlling in [true, false] {
                let mut command = Command::new("sh");
                command.args(["-c", &case.script(fds)]).without(without);
                let pty = Pty::new().echo(false).controlling(controlling);
                command.channel("terminal", pty, fds.iter().copied());
                command.fd(SAID, ReadPipe).fd(TOLD, WritePipe);
                command.fds((0..3).filter(|fd| !fds.contains(fd)).chain([7]), Null);
                println!("{case:?} on {fds:?}, controlling {controlling}, without {without:?}");
                let mut driver = Driver::new();
                let key = driver.add(&mut command);
                case.check(&mut driver, key, controlling);
                count += 1;
            }
        }
    }
    assert_eq!(count, 2 * 7 * 6 * 2);
}
