//! What is in a pump, and what becomes of it: looked at, taken out, moved to
//! another thread, dropped.

#[path = "support/pump.rs"]
mod support;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::{ChildStdin, ChildStdout};
use std::thread;

use forkplan::{
    Backend, Channel, ChannelError, ChildKey, Command, Direction, End, Features, Lost, Name,
    OnDrop, Pump, Signal,
};
use rustix::event::epoll::EventFlags;
use rustix::fs::OFlags;
use support::{Driver, Seen, TestPump};

/// One pump of every kind, whatever the suite runs with.
fn pumps() -> [Driver; 4] {
    let forced = |backend| Pump::with_backend(backend).unwrap();
    let none = EventFlags::empty();
    [
        Driver::new(),
        Driver::with(TestPump::in_loop(forced(Backend::Poll), none)),
        Driver::with(TestPump::in_loop(forced(Backend::Epoll), none)),
        Driver::with(TestPump::in_loop(forced(Backend::Foreign), EventFlags::ET)),
    ]
}

fn blocks(fd: BorrowedFd<'_>) -> bool {
    !rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

fn sorted(keys: impl Iterator<Item = ChildKey>) -> Vec<ChildKey> {
    let mut keys: Vec<_> = keys.collect();
    keys.sort();
    keys
}

#[test]
fn children_and_their_channels_can_be_looked_at() {
    let mut driver = Driver::new();
    assert_eq!(driver.pump.children().count(), 0);
    let agent = driver.agent(|command| {
        command.channel("in", Channel::WritePipe, [0, 4]).fd(5, Channel::SocketPair);
        command.fd(1, Channel::ReadPipe);
    });
    let cat = driver.add(&mut Command::new("cat"));
    assert_eq!(sorted(driver.pump.children()), sorted([agent.key, cat].into_iter()));
    driver.pump.pause(agent.key, 5).unwrap();
    driver.pump.close(agent.key, 1).unwrap();
    let written = [b'x'; 1 << 20];
    while driver.pump.write(agent.key, "in", &written).unwrap() > 0 {}
    let channels: Vec<_> = driver.pump.channels(agent.key).unwrap().collect();
    let of = |name| *channels.iter().find(|channel| channel.name == name).unwrap();
    let input = of(Name::Text("in"));
    assert_eq!((input.fds, input.direction), (&[0, 4][..], Direction::Write));
    assert_eq!((input.open, input.paused, input.queued), (true, false, 65_536));
    let pair = of(Name::Fd(5));
    assert_eq!((pair.direction, pair.open, pair.paused), (Direction::Both, true, true));
    let out = of(Name::Fd(1));
    assert_eq!((out.direction, out.open, out.queued), (Direction::Read, false, 0));
    assert_eq!(channels.len(), 3);

    driver.pump.close_all(cat).unwrap();
    driver.pump.abort_all(agent.key).unwrap();
    drop(agent);
    driver.finish();
    assert_eq!(driver.pump.children().count(), 0);
    assert_eq!(driver.pump.channels(cat).err(), Some(ChannelError::NoChild));
}

#[test]
fn of_two_attached_ends_one_channel_is_shown() {
    let mut pump = Pump::new();
    let (reader, to_us) = io::pipe().unwrap();
    let (from_us, writer) = io::pipe().unwrap();
    let key = pump.attach([End::duplex("talk", reader, writer).unwrap()]);
    pump.pause(key, "talk").unwrap();
    let channels: Vec<_> = pump.channels(key).unwrap().collect();
    let [channel] = channels[..] else { panic!("{channels:?}") };
    assert_eq!((channel.name, channel.fds), (Name::Text("talk"), &[][..]));
    assert_eq!((channel.direction, channel.open, channel.paused), (Direction::Both, true, true));
    drop((to_us, from_us));
}

#[test]
fn a_removed_child_goes_on_with_its_handle_and_its_ends_block() {
    for without in [Features::empty(), Features::PIDFD] {
        for mut driver in pumps() {
            let cat = driver.add(Command::new("cat").without(without));
            let other = driver.add(&mut Command::new("cat"));
            driver.pump.write(cat, 0, b"by the pump").unwrap();
            driver.until(|driver| driver.data(cat, "1") == b"by the pump");

            let removed = driver.pump.remove(cat).unwrap();
            assert_eq!((removed.lost(0), removed.lost(1)), (Lost::default(), Lost::default()));
            assert_eq!(driver.pump.write(cat, 0, b"x"), Err(ChannelError::NoChild));
            assert!(driver.pump.remove(cat).is_err());
            assert_eq!(driver.pump.children().collect::<Vec<_>>(), [other]);

            // Another loop is told to forget the fds, and only then are its closed.
            driver.drain();
            let mut child = removed.child;
            for channel in [0, 1, 2] {
                assert!(blocks(child.end(channel).unwrap()), "channel {channel}");
            }
            let mut input = ChildStdin::from(child.take(0).unwrap());
            input.write_all(b"by hand").unwrap();
            drop(input);
            // Takes their numbers, if the pump's were closed with them.
            let taken = UnixStream::pair().unwrap();
            let mut said = String::new();
            ChildStdout::from(child.take(1).unwrap()).read_to_string(&mut said).unwrap();
            assert_eq!(said, "by hand");
            assert!(child.wait().unwrap().success());
            assert!(child.pidfd().is_some() != without.contains(Features::PIDFD));
            drop((child, taken));

            // The other one has noticed nothing.
            driver.pump.write(other, 0, b"still here").unwrap();
            driver.pump.close(other, 0).unwrap();
            driver.until(|driver| driver.has_ended(other));
            assert_eq!(driver.data(other, "1"), b"still here");
            assert!(driver.pump.is_empty() && !driver.has_ended(cat));
        }
    }
}

#[test]
fn what_is_queued_for_a_removed_child_is_dropped_and_counted() {
    for mut driver in pumps() {
        let mut agent = driver.agent(|command| {
            command.fd(0, Channel::WritePipe).fd(4, Channel::SocketPair).fd(5, Channel::WritePipe);
        });
        let big = vec![b'x'; 1 << 20];
        let taken = driver.pump.write(agent.key, 0, &big).unwrap();
        let closing = driver.pump.write(agent.key, 5, &big).unwrap();
        driver.pump.close(agent.key, 5).unwrap();
        assert!(taken > 65_536 && closing > 65_536);
        driver.drain();
        let removed = driver.pump.remove(agent.key).unwrap();
        driver.drain();
        assert_eq!(removed.lost(0).unsent, 65_536);
        assert_eq!(removed.lost(5).unsent, 65_536);
        assert_eq!(removed.lost(4), Lost::default());
        assert_eq!(removed.lost("no such channel"), Lost::default());
        // Closed, as was asked, and the socket by no half.
        assert!(removed.child.end(5).is_none());
        let mut child = removed.child;
        let mut socket = UnixStream::from(child.take(4).unwrap());
        agent.tell("read -r line <&4; echo \"$line\" >&4");
        socket.write_all(b"both ways\n").unwrap();
        let mut said = [0; 10];
        socket.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"both ways\n");
        // What the pipe holds is still there to be read.
        agent.tell("n=$(wc -c); echo $n >&9");
        drop(child.take(0));
        assert_eq!(agent.hear().trim(), (taken - 65_536).to_string());
        drop(agent);
        child.wait().unwrap();
    }
}

#[test]
fn events_of_a_removed_child_are_not_told_and_are_counted() {
    let mut driver = Driver::new();
    let key = driver.sh("exit 3");
    let other = driver.sh("exit 4");
    let removed = driver.pump.remove(key).unwrap();
    // Made.
    assert_eq!(removed.untold, 1);
    let mut child = removed.child;
    assert_eq!(child.wait().unwrap().code(), Some(3));
    driver.finish();
    assert!(driver.of(key).next().is_none());
    assert_eq!(driver.exit(other).unwrap().code(), Some(4));
}

#[test]
fn a_child_that_was_reaped_and_has_a_channel_left_can_be_removed() {
    for mut driver in pumps() {
        let mut command = Command::new("sh");
        // The channel outlives the process by a grandchild, which reads it.
        command.args(["-c", "exec 8<&4; (read -r line <&8; echo $line >&1) & exit 5"]);
        command.fd(4, Channel::WritePipe).fd(1, Channel::ReadPipe);
        let key = driver.add(&mut command);
        driver.until(|driver| driver.exit(key).is_some());
        let mut child = driver.pump.remove(key).unwrap().child;
        assert_eq!(child.exit().unwrap().code(), Some(5));
        driver.drain();
        ChildStdin::from(child.take(4).unwrap()).write_all(b"after the exit\n").unwrap();
        let mut said = String::new();
        ChildStdout::from(child.take(1).unwrap()).read_to_string(&mut said).unwrap();
        assert_eq!(said, "after the exit\n");
        assert!(driver.pump.is_empty());
        driver.drain();
    }
}

#[test]
fn attached_channels_are_not_removed() {
    let mut pump = Pump::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let key = pump.attach([End::new("talk", ours).unwrap()]);
    let error = pump.remove(key).unwrap_err();
    let inner = error.into_inner().unwrap();
    assert_eq!(inner.downcast_ref(), Some(&ChannelError::NoProcess));
    assert_eq!(pump.watch_stops(key, true), Err(ChannelError::NoProcess));
    // All is as before.
    assert_eq!(pump.write(key, "talk", b"on"), Ok(2));
    let mut said = [0; 2];
    (&theirs).read_exact(&mut said).unwrap();
    assert_eq!(&said, b"on");
}

#[test]
fn a_pump_that_is_moved_to_another_thread_goes_on_there() {
    let mut driver = Driver::new();
    let cat = driver.add(&mut Command::new("cat"));
    driver.pump.write(cat, 0, b"here ").unwrap();
    driver.until(|driver| !driver.data(cat, "1").is_empty());
    let driver = thread::spawn(move || {
        driver.pump.write(cat, 0, b"and there").unwrap();
        driver.pump.close(cat, 0).unwrap();
        driver.finish();
        driver
    });
    let driver = driver.join().unwrap();
    assert_eq!(driver.data(cat, "1"), b"here and there");
    assert!(driver.exit(cat).unwrap().success());
}

#[test]
fn dropping_a_pump_follows_what_each_child_says() {
    for mut driver in pumps() {
        let killed = driver.agent(|_| {});
        let mut detached = driver.agent(|_| {});
        let mut handle = driver.pump.remove(detached.key).unwrap().child;
        handle.set_on_drop(OnDrop::Detach);
        let watch = rustix::io::dup(handle.pidfd().unwrap()).unwrap();
        let dead =
            rustix::io::dup(driver.pump.child(killed.key).unwrap().pidfd().unwrap()).unwrap();
        driver.pump.add(handle);
        driver.drain();
        drop(driver);
        // Killed and reaped: there is nothing to wait for.
        let options =
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG;
        let wait = |fd: BorrowedFd<'_>| {
            rustix::process::waitid(rustix::process::WaitId::PidFd(fd), options)
                .map(|s| s.is_some())
        };
        assert_eq!(wait(dead.as_fd()), Err(rustix::io::Errno::CHILD));
        // Runs on.
        assert_eq!(detached.ask("echo alive >&9"), "alive\n");
        drop((detached, killed));
        let mut polled = [libc::pollfd { fd: watch.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        // SAFETY: one element.
        assert_eq!(unsafe { libc::poll(polled.as_mut_ptr(), 1, 120_000) }, 1);
        assert_eq!(wait(watch.as_fd()), Ok(true));
    }
}

#[test]
fn stops_are_told_of_who_is_watched_and_of_nobody_else() {
    for without in [Features::empty(), Features::PIDFD] {
        for mut driver in pumps() {
            // Somebody else's child, whose stop and end are his to wait for.
            let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            let stranger_id = rustix::process::Pid::from_child(&stranger);
            let kill = |signal| rustix::process::kill_process(stranger_id, signal).unwrap();
            kill(rustix::process::Signal::STOP);

            let watched = driver.add(Command::new("sleep").arg("1000").without(without));
            let other = driver.add(Command::new("sleep").arg("1000"));
            driver.pump.watch_stops(watched, true).unwrap();
            // Twice is once.
            driver.pump.watch_stops(watched, true).unwrap();
            for key in [other, watched] {
                driver.pump.signal(key, Signal::STOP).unwrap();
            }
            driver.until(|driver| driver.has(watched, &Seen::Stopped(Signal::STOP)));
            driver.pump.signal(watched, Signal::CONT).unwrap();
            driver.until(|driver| driver.has(watched, &Seen::Continued));
            driver.pump.watch_stops(watched, false).unwrap();
            driver.pump.signal(watched, Signal::TSTP).unwrap();
            for key in [other, watched] {
                driver.pump.signal(key, Signal::KILL).unwrap();
            }
            driver.finish();
            let stops = |key| {
                let is = |seen: &&Seen| matches!(seen, Seen::Stopped(_) | Seen::Continued);
                driver.of(key).filter(is).count()
            };
            assert_eq!((stops(watched), stops(other)), (2, 0));
            assert_eq!(driver.exit(watched).unwrap().signal(), Some(Signal::KILL));

            let options = rustix::process::WaitOptions::UNTRACED;
            let (_, status) =
                rustix::process::waitpid(Some(stranger_id), options).unwrap().unwrap();
            assert!(status.stopped());
            stranger.kill().unwrap();
            stranger.wait().unwrap();
        }
    }
}

#[test]
fn a_watched_child_ends_like_any_other() {
    let mut driver = Driver::new();
    let key = driver.sh("kill -STOP $$; exit 6");
    driver.pump.watch_stops(key, true).unwrap();
    driver.until(|driver| driver.has(key, &Seen::Stopped(Signal::STOP)));
    driver.pump.signal(key, Signal::CONT).unwrap();
    driver.finish();
    assert_eq!(driver.exit(key).unwrap().code(), Some(6));
    // Nobody is watched now, and a poll may wait.
    assert_eq!(driver.pump.next_deadline(), None);
    assert_eq!(driver.pump.watch_stops(key, true), Err(ChannelError::NoChild));
}
