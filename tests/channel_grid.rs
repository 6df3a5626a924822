//! Every kind of channel on one, two and three child fds, in everything that can
//! happen to a channel. `Driver::finish` looks at the contract of the events:
//! `Made` first, `Data` before `Closed`, `Closed` once, `Ended` last.

#![cfg(target_os = "linux")]

#[path = "support/kinds.rs"]
mod kinds;
#[path = "support/pump.rs"]
mod support;

use forkplan::Channel::ReadPipe;
use forkplan::{ChannelError, CloseReason, Command};
use kinds::{ENDLESS, KINDS, Kind};
use support::{Agent, Driver, Orphan, Seen};

/// The standard numbers too. A shell knows those of one digit.
const FDS: [&[i32]; 3] = [&[3], &[1, 8], &[7, 0, 2]];

/// One cell of the grid: an agent with a channel.
struct Cell<'a> {
    kind: &'a Kind,
    fds: &'a [i32],
    driver: Driver,
    agent: Agent,
    _dir: tempfile::TempDir,
}

impl Cell<'_> {
    fn name(&self) -> String {
        format!("{} on {:?}", self.kind.name, self.fds)
    }

    fn closed(&self) -> Option<(CloseReason, usize)> {
        self.driver.closed(self.agent.key, "it")
    }

    /// Has the agent close some of its fds.
    fn close(&mut self, fds: &[i32]) {
        let list: Vec<String> = fds.iter().map(|fd| format!("{fd}>&-")).collect();
        self.agent.ask(&format!("exec {}", list.join(" ")));
    }

    /// The agent ends, and with it all that it held.
    fn finish(mut self, reason: CloseReason) {
        let (name, key) = (self.name(), self.agent.key);
        drop(self.agent);
        self.driver.finish();
        assert_eq!(self.driver.closed(key, "it"), Some((reason, 0)), "{name}");
    }
}

/// Runs `body` for every kind that `wanted` has, on each set of fds.
fn for_each(wanted: fn(&Kind) -> bool, mut body: impl FnMut(Cell<'_>)) {
    let mut cells = 0;
    for kind in KINDS.iter().filter(|kind| wanted(kind)) {
        for fds in FDS {
            let dir = tempfile::tempdir().unwrap();
            let mut driver = Driver::new();
            let channel = (kind.make)(dir.path());
            let agent = driver.agent(|command| {
                command.channel("it", channel, fds.iter().copied());
            });
            body(Cell { kind, fds, driver, agent, _dir: dir });
            cells += 1;
        }
    }
    assert!(cells >= FDS.len());
}

#[test]
fn what_the_child_writes_to_any_of_its_fds_is_told() {
    for_each(
        |kind| kind.reads,
        |mut cell| {
            let key = cell.agent.key;
            let mut parts = Vec::new();
            for fd in cell.fds {
                cell.agent.ask(&format!("printf 'from {fd}' >&{fd}"));
                parts.push(format!("from {fd}").into_bytes());
            }
            cell.driver.until(|d| d.data(key, "it").len() == parts.concat().len());
            assert_eq!(cell.driver.data(key, "it"), parts.concat(), "{}", cell.name());
            if cell.kind.messages {
                let told = cell.driver.of(key).filter_map(|seen| match seen {
                    Seen::Data(_, bytes) => Some(bytes.clone()),
                    _ => None,
                });
                assert!(told.eq(parts), "{}", cell.name());
            }
            cell.finish(CloseReason::Peer);
        },
    );
}

#[test]
fn what_is_written_by_any_of_its_names_comes_out_of_any_of_its_fds() {
    for_each(
        |kind| kind.writes,
        |mut cell| {
            let key = cell.agent.key;
            for from in cell.fds {
                for to in cell.fds {
                    let text = format!("by {to} to {from}");
                    let written = cell.driver.pump.write(key, *to, text.as_bytes());
                    assert_eq!(written, Ok(text.len()));
                    let read = format!("dd bs=100 count=1 status=none <&{from} >&9; echo >&9");
                    assert_eq!(cell.agent.ask(&read), text + "\n", "{}", cell.name());
                }
            }
            assert_eq!(cell.driver.pump.write(key, "it", b"unread"), Ok(6));
            cell.driver.pump.close(key, "it").unwrap();
            cell.finish(CloseReason::Us);
        },
    );
}

#[test]
fn a_channel_that_only_reads_takes_no_write_and_the_other_way_round() {
    for_each(
        |kind| !kind.writes,
        |mut cell| {
            let key = cell.agent.key;
            let written = cell.driver.pump.write(key, "it", b"x");
            assert_eq!(written, Err(ChannelError::NotWritable), "{}", cell.name());
            cell.finish(CloseReason::Peer);
        },
    );
    for_each(
        |kind| !kind.reads,
        |mut cell| {
            let paused = cell.driver.pump.pause(cell.agent.key, "it");
            assert_eq!(paused, Err(ChannelError::NotReadable), "{}", cell.name());
            cell.finish(CloseReason::Peer);
        },
    );
}

#[test]
fn a_close_by_us_is_noticed_on_each_of_the_childs_fds() {
    for_each(
        |_| true,
        |mut cell| {
            let key = cell.agent.key;
            let by = *cell.fds.last().unwrap();
            cell.driver.pump.close(key, by).unwrap();
            cell.driver.pump.close(key, "it").unwrap();
            cell.driver.drain();
            assert_eq!(cell.closed(), Some((CloseReason::Us, 0)), "{}", cell.name());
            let written = cell.driver.pump.write(key, by, b"x");
            assert!(matches!(written, Err(ChannelError::Closed | ChannelError::NotWritable)));
            for fd in cell.fds {
                if cell.kind.reads {
                    // By dd, which says so with its status and not to fd 2.
                    let write = format!(
                        "trap '' PIPE; echo x | dd status=none 1>&{fd} 2>&9 || echo refused >&9"
                    );
                    assert!(cell.agent.ask(&write).ends_with("refused\n"), "{}", cell.name());
                }
                if cell.kind.writes && cell.kind.has_end {
                    let read = format!("dd bs=100 count=1 status=none <&{fd} >&9; echo end >&9");
                    assert_eq!(cell.agent.ask(&read), "end\n", "{}", cell.name());
                }
            }
            cell.finish(CloseReason::Us);
        },
    );
}

#[test]
fn each_half_is_closed_by_us_apart_from_the_other() {
    for_each(
        |kind| kind.half_closes,
        |mut cell| {
            let (key, fd) = (cell.agent.key, cell.fds[0]);
            cell.driver.pump.close_write(key, "it").unwrap();
            assert_eq!(cell.driver.pump.write(key, "it", b"x"), Err(ChannelError::Closed));
            if cell.kind.has_end {
                let read = format!("dd bs=100 count=1 status=none <&{fd} >&9; echo end >&9");
                assert_eq!(cell.agent.ask(&read), "end\n");
            }
            cell.agent.ask(&format!("printf still >&{fd}"));
            cell.driver.until(|d| d.data(key, "it") == b"still");
            assert_eq!(cell.closed(), None, "{}", cell.name());
            cell.driver.pump.close_read(key, "it").unwrap();
            cell.driver.drain();
            cell.finish(CloseReason::Us);
        },
    );
}

#[test]
fn a_close_by_the_child_is_noticed_when_its_last_fd_is_closed_and_not_before() {
    for_each(
        |_| true,
        |mut cell| {
            let fds = cell.fds;
            let (last, others) = fds.split_last().unwrap();
            if !others.is_empty() {
                cell.close(others);
                cell.driver.assert_quiet();
                assert_eq!(cell.closed(), None, "{}", cell.name());
            }
            if cell.kind.reads {
                cell.agent.ask(&format!("printf last >&{last}"));
            }
            cell.close(&[*last]);
            let key = cell.agent.key;
            if cell.kind.has_end {
                cell.driver.until(|d| d.closed(key, "it").is_some());
                assert_eq!(cell.closed(), Some((CloseReason::Peer, 0)), "{}", cell.name());
            }
            if cell.kind.reads {
                cell.driver.until(|d| d.data(key, "it") == b"last");
            }
            // The process runs on, and nothing more is told of the channel.
            cell.driver.assert_quiet();
            assert_eq!(cell.driver.exit(key), None);
            cell.finish(CloseReason::Peer);
        },
    );
}

#[test]
fn nothing_is_lost_of_a_child_that_exits_at_once() {
    let mut driver = Driver::new();
    let mut expected = Vec::new();
    let mut dirs = Vec::new();
    for kind in KINDS {
        for fds in FDS {
            let dir = tempfile::tempdir().unwrap();
            let fd = fds.last().unwrap();
            let script = if kind.reads { format!("printf gone >&{fd}") } else { "true".into() };
            let mut command = Command::new("sh");
            command.args(["-c", &script]);
            command.channel("it", (kind.make)(dir.path()), fds.iter().copied());
            let key = driver.add(&mut command);
            expected.push((key, kind));
            dirs.push(dir);
        }
    }
    driver.finish();
    for (key, kind) in expected {
        let data: &[u8] = if kind.reads { b"gone" } else { b"" };
        assert_eq!(driver.data(key, "it"), data, "{}", kind.name);
        assert_eq!(driver.closed(key, "it"), Some((CloseReason::Peer, 0)), "{}", kind.name);
        assert!(driver.exit(key).unwrap().success(), "{}", kind.name);
    }
}

#[test]
fn a_grandchild_that_holds_it_delays_the_end_and_not_the_exit() {
    for_each(
        |_| true,
        |mut cell| {
            let key = cell.agent.key;
            // Not 9, by which the agent is told.
            let pid = cell.agent.ask("sleep 300 9<&- & echo $! >&9");
            let orphan = Orphan(pid.trim().parse().unwrap());
            let Cell { kind, mut driver, agent, .. } = cell;
            drop(agent);
            driver.until(|d| d.exit(key).is_some());
            if kind.has_end {
                driver.assert_quiet();
                assert_eq!(driver.closed(key, "it"), None, "{}", kind.name);
                assert!(!driver.has_ended(key));
            }
            drop(orphan);
            driver.finish();
            assert_eq!(driver.closed(key, "it"), Some((CloseReason::Peer, 0)), "{}", kind.name);
        },
    );
}

#[test]
fn channels_without_an_end_of_ours_are_read_and_written_on_each_of_their_fds() {
    for kind in ENDLESS {
        for fds in FDS {
            for fd in fds {
                let dir = tempfile::tempdir().unwrap();
                let mut driver = Driver::new();
                let script = match kind.takes {
                    true => format!("cat <&{fd} >&9; echo x >&{fd} && echo taken >&9"),
                    false => format!("cat <&{fd} >&9"),
                };
                let mut command = Command::new("sh");
                command.args(["-c", &script]).fd(9, ReadPipe);
                command.channel("it", (kind.make)(dir.path()), fds.iter().copied());
                let key = driver.add(&mut command);
                assert_eq!(driver.pump.close(key, "it"), Err(ChannelError::NoChannel));
                driver.finish();
                let taken = if kind.takes { "taken\n" } else { "" };
                let expected = format!("{}{taken}", kind.holds);
                let said = String::from_utf8(driver.data(key, "9")).unwrap();
                assert_eq!(said, expected, "{} on {fd} of {fds:?}", kind.name);
            }
        }
    }
}
