//! Children and orphans that are not the pump's: left alone, whoever is adopted.
#![cfg(target_os = "linux")]

#[path = "support/pid_namespace.rs"]
mod pid_namespace;
#[path = "support/pump.rs"]
mod support;

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, Stdio};

use forkplan::{Command, OnDrop};
use pid_namespace::{in_a_pid_namespace, next_pid};
use support::orphans::{
    LEAVES_ONE, adopted, become_subreaper, hurry, leader, look, pumps, said_pid, wait_for_zombie,
    waited,
};
use support::{Driver, alone};

/// Children of this program that the pump was not given, alive and ended, in this
/// session and in their own, and what they leave.
struct Strangers {
    ended: process::Child,
    running: process::Child,
    own_session: process::Child,
    /// An orphan of a child of std's, which has ended.
    orphan: u32,
}

fn with_std(script: &str) -> process::Command {
    let mut command = process::Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

impl Strangers {
    fn new() -> Self {
        let ended = with_std("exit 4").spawn().unwrap();
        let running = with_std("read code; exit $code").spawn().unwrap();
        let mut own_session = with_std("exit 5");
        // SAFETY: setsid may be called after a fork.
        unsafe {
            own_session.pre_exec(|| rustix::process::setsid().map(|_| ()).map_err(Into::into))
        };
        let own_session = own_session.spawn().unwrap();
        let mut leaves = with_std("exec 3<&0; sh -c 'read x <&3; exit 6' >&- & echo $!");
        let mut leaves = leaves.spawn().unwrap();
        let held = leaves.stdin.take();
        let said = leaves.wait_with_output().unwrap().stdout;
        let orphan = String::from_utf8(said).unwrap().trim().parse().unwrap();
        drop(held);
        for pid in [ended.id(), own_session.id(), orphan] {
            wait_for_zombie(pid);
        }
        Self { ended, running, own_session, orphan }
    }

    fn assert_untouched(mut self) {
        assert_eq!(self.ended.wait().unwrap().code(), Some(4));
        assert_eq!(self.own_session.wait().unwrap().code(), Some(5));
        assert_eq!(waited(self.orphan).unwrap(), Some(6));
        assert_eq!(self.running.try_wait().unwrap(), None);
        io::Write::write_all(&mut self.running.stdin.take().unwrap(), b"8\n").unwrap();
        assert_eq!(self.running.wait().unwrap().code(), Some(8));
    }
}

#[test]
fn children_of_others_and_their_orphans_are_left_alone() {
    alone("children_of_others_and_their_orphans_are_left_alone", || {
        become_subreaper();
        for mut driver in pumps() {
            hurry(&mut driver.pump);
            let strangers = Strangers::new();
            // A session's leader of which nothing was asked leaves one too.
            let other = driver.add(&mut leader(LEAVES_ONE));
            let left = said_pid(&mut driver, other);
            let sh = driver.add(&mut leader(LEAVES_ONE));
            driver.pump.adopt_orphans(sh).unwrap();
            let pid = said_pid(&mut driver, sh);
            // Nobody else's child gets into that session by its group.
            let joins = with_std("")
                .process_group(driver.pump.child(sh).unwrap().id().unwrap() as i32)
                .spawn();
            assert_eq!(joins.unwrap_err().raw_os_error(), Some(libc::EPERM));
            for key in [sh, other] {
                driver.pump.write(key, 0, b"go\n").unwrap();
            }
            driver.until(|driver| driver.exit(sh).is_some() && driver.exit(other).is_some());
            driver.pump.write(other, 5, b"1\n").unwrap();
            wait_for_zombie(left);
            look(&mut driver);
            driver.pump.write(sh, 5, b"7\n").unwrap();
            driver.finish();
            let told: Vec<u32> = adopted(&driver, sh).iter().map(|(_, pid)| *pid).collect();
            assert_eq!(told, [pid]);
            assert_eq!(adopted(&driver, other), []);
            assert_eq!(waited(left).unwrap(), Some(1));
            strangers.assert_untouched();
        }
    });
}

#[test]
fn control_who_waits_for_any_child_takes_others() {
    alone("control_who_waits_for_any_child_takes_others", || {
        become_subreaper();
        let mut strangers = Strangers::new();
        let mut taken = Vec::new();
        loop {
            // SAFETY: no status is asked for.
            match unsafe { libc::waitpid(-1, core::ptr::null_mut(), libc::WNOHANG) } {
                pid if pid > 0 => taken.push(pid as u32),
                _ => break,
            }
        }
        taken.sort();
        let mut ended = [strangers.ended.id(), strangers.own_session.id(), strangers.orphan];
        ended.sort();
        assert_eq!(taken, ended);
        assert_eq!(strangers.ended.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
        strangers.running.kill().unwrap();
        strangers.running.wait().unwrap();
    });
}

/// And a group does not tell: any child may be put into one.
#[test]
fn control_a_child_of_others_gets_into_a_group() {
    let mut leader = Command::new("cat").process_group(0).on_drop(OnDrop::Kill).spawn().unwrap();
    let group = leader.id().unwrap() as i32;
    let mut stranger = with_std("read x").process_group(group).spawn().unwrap();
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::getpgid(stranger.id() as i32) }, group);
    drop(stranger.stdin.take());
    stranger.wait().unwrap();
    leader.wait().unwrap();
}

#[test]
fn one_in_a_session_of_its_own_has_left() {
    alone("one_in_a_session_of_its_own_has_left", || {
        become_subreaper();
        let mut driver = Driver::new();
        hurry(&mut driver.pump);
        let script = "setsid sh -c 'echo $$; read code <&5; exit $code' & read go; exit 3";
        let sh = driver.add(&mut leader(script));
        driver.pump.adopt_orphans(sh).unwrap();
        let pid = said_pid(&mut driver, sh);
        driver.pump.write(sh, 0, b"go\n").unwrap();
        driver.until(|driver| driver.exit(sh).is_some());
        driver.pump.write(sh, 5, b"7\n").unwrap();
        wait_for_zombie(pid);
        driver.finish();
        assert_eq!(adopted(&driver, sh), []);
        assert_eq!(waited(pid).unwrap(), Some(7));
    });
}

/// Once the session is over, what has its number is somebody else's.
#[test]
fn a_session_whose_number_comes_round_is_not_taken_for_the_one_that_was() {
    let body = || {
        // Here this program is the first process, which is given every orphan.
        let mut driver = Driver::new();
        let sh = driver.add(&mut leader(LEAVES_ONE));
        let number = driver.pump.child(sh).unwrap().id().unwrap();
        driver.pump.adopt_orphans(sh).unwrap();
        let pid = said_pid(&mut driver, sh);
        driver.pump.write(sh, 0, b"go\n").unwrap();
        driver.until(|driver| driver.exit(sh).is_some());
        // The last of the session, reaped by somebody else before the pump sees it.
        driver.pump.write(sh, 5, b"7\n").unwrap();
        wait_for_zombie(pid);
        assert_eq!(waited(pid).unwrap(), Some(7));

        // Its orphan has a number that nobody had.
        let script = "exec 3<&0; echo 1000 >/proc/sys/kernel/ns_last_pid; \
             sh -c 'read x <&3; exit 6' >&- & echo $!; exit 5";
        let mut stranger = with_std(script);
        // SAFETY: setsid may be called after a fork.
        unsafe { stranger.pre_exec(|| rustix::process::setsid().map(|_| ()).map_err(Into::into)) };
        next_pid(number).unwrap();
        let mut stranger = stranger.spawn().unwrap();
        assert_eq!(stranger.id(), number, "the premise");
        let held = stranger.stdin.take();
        let mut said = String::new();
        io::Read::read_to_string(&mut stranger.stdout.take().unwrap(), &mut said).unwrap();
        let orphan: u32 = said.trim().parse().unwrap();
        wait_for_zombie(number);
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::getsid(orphan as i32) }, number as i32, "the premise");

        driver.finish();
        assert_eq!(adopted(&driver, sh).len(), 1);
        assert_eq!(stranger.wait().unwrap().code(), Some(5));
        drop(held);
        wait_for_zombie(orphan);
        assert_eq!(waited(orphan).unwrap(), Some(6));
    };
    let name = "a_session_whose_number_comes_round_is_not_taken_for_the_one_that_was";
    alone(name, || {
        in_a_pid_namespace(body);
    });
}
