//! Many children at once: every byte and every exit is accounted for.

#[path = "support/pump.rs"]
mod support;

use std::collections::BTreeMap;

use forkplan::{Channel, ChildKey, Command, Event, Exit, Features, OnDrop};
use support::{TestPump, Watch};

/// What one child has told.
#[derive(Default)]
struct Told {
    out: Vec<u8>,
    err: Vec<u8>,
    closed: usize,
    exit: Option<Exit>,
    ended: bool,
}

/// Runs the pump until all have ended.
fn collect(pump: &mut TestPump) -> BTreeMap<ChildKey, Told> {
    let watch = Watch::new();
    let mut all = BTreeMap::<ChildKey, Told>::new();
    while !pump.is_empty() {
        watch.poll(pump);
        while let Some(event) = pump.next_event() {
            let (child, seen) = support::owned(event);
            let told = all.entry(child).or_default();
            assert!(!told.ended, "{seen:?} after the end");
            match seen {
                support::Seen::Data(channel, bytes) => match channel.as_str() {
                    "1" => told.out.extend(bytes),
                    _ => told.err.extend(bytes),
                },
                support::Seen::Closed(_, _, unsent) => {
                    told.closed += 1;
                    assert_eq!(unsent, 0);
                }
                support::Seen::Exited(exit) => {
                    assert_eq!(told.exit.replace(exit), None);
                }
                support::Seen::Ended(exit) => {
                    assert_eq!(told.exit, Some(exit));
                    told.ended = true;
                }
                _ => {}
            }
        }
    }
    all
}

/// As many children as fit below the limit on fds with `fds` each, up to
/// `wanted`. Raises the soft limit to the hard one.
fn children_that_fit(wanted: usize, fds: usize) -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes and reads the struct.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    let room = usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) / 2;
    let fit = wanted.min(room / fds);
    if fit < wanted {
        println!("{fit} children and not {wanted}: RLIMIT_NOFILE is {}", limit.rlim_cur);
    }
    fit
}

#[test]
fn five_hundred_children_at_once_are_told_apart() {
    let count = children_that_fit(500, 4);
    let mut command = Command::new("sh");
    let script = "read -r n; echo \"out $n\"; echo \"err $n\" >&2; exit $((n % 200))";
    let mut prepared = command.args(["-c", script]).on_drop(OnDrop::Kill).prepare().unwrap();
    let mut pump = TestPump::new();
    let keys: Vec<_> = (0..count).map(|_| pump.add(prepared.spawn().unwrap())).collect();
    assert_eq!(pump.len(), count);
    // All of them run now, and wait for their line.
    for (n, &key) in keys.iter().enumerate() {
        let line = format!("{n}\n");
        assert_eq!(pump.write(key, 0, line.as_bytes()), Ok(line.len()));
    }
    let mut all = collect(&mut pump);
    for (n, key) in keys.into_iter().enumerate() {
        let told = all.remove(&key).unwrap();
        assert_eq!(told.out, format!("out {n}\n").into_bytes());
        assert_eq!(told.err, format!("err {n}\n").into_bytes());
        assert_eq!(told.exit.unwrap().code(), Some(n as i32 % 200));
        assert_eq!((told.closed, told.ended), (3, true));
    }
    assert!(all.is_empty());
}

// folly's test of the same
#[test]
fn three_hundred_children_chatter_by_single_bytes() {
    const BYTES: usize = 40;
    let count = children_that_fit(300, 2);
    let script = format!("i=0; while [ $i -lt {BYTES} ]; do printf x; i=$((i+1)); done");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).fd(1, Channel::ReadPipe).on_drop(OnDrop::Kill);
    let mut prepared = command.prepare().unwrap();
    let mut pump = TestPump::new();
    for _ in 0..count {
        pump.add(prepared.spawn().unwrap());
    }
    let all = collect(&mut pump);
    assert_eq!(all.len(), count);
    for told in all.values() {
        assert_eq!(told.out, [b'x'; BYTES]);
        assert!(told.ended && told.exit.unwrap().success());
    }
}

#[test]
fn places_of_ended_children_are_used_again_without_mixing_them_up() {
    for without in [Features::empty(), Features::PIDFD, Features::SHARED_MEMORY] {
        let mut command = Command::new("sh");
        command.args(["-c", "read -r n; echo $n; exit $n"]).without(without);
        let mut prepared = command.on_drop(OnDrop::Kill).prepare().unwrap();
        let (watch, mut pump) = (Watch::new(), TestPump::new());
        let mut running = BTreeMap::<ChildKey, (i32, Vec<u8>)>::new();
        let (mut started, mut ended) = (0, 0);
        while ended < 100 {
            while started < 100 && pump.len() < 8 {
                let key = pump.add(prepared.spawn().unwrap());
                pump.write(key, 0, format!("{started}\n").as_bytes()).unwrap();
                assert!(running.insert(key, (started, Vec::new())).is_none(), "a key comes again");
                started += 1;
            }
            watch.poll(&mut pump);
            while let Some(event) = pump.next_event() {
                match event {
                    Event::Data { child, bytes, .. } => {
                        running.get_mut(&child).unwrap().1.extend(bytes);
                    }
                    Event::Ended { child, exit } => {
                        let (n, said) = running.remove(&child).unwrap();
                        assert_eq!(said, format!("{n}\n").into_bytes());
                        assert_eq!(exit.code(), Some(n));
                        ended += 1;
                    }
                    _ => {}
                }
            }
        }
        assert!(pump.is_empty());
    }
}
