//! Who the program is: user, groups, capabilities, and that it can't go back.

#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::process::Command as StdCommand;

use forkplan::Channel::{Null, ReadPipe};
use forkplan::plan::Step;
use forkplan::{Capabilities, Child, Command, PlanError};
use support::{fds_of_self, in_subprocess, no_child_is_left, pause};

/// Some user and groups that nobody has.
const UID: u32 = 12_345;
const GID: u32 = 23_456;

type Change<'a> = &'a dyn for<'c> Fn(&'c mut Command<'static>) -> &'c mut Command<'static>;

/// Ends a test that wants root, where this is not root, and says so.
macro_rules! root_only {
    ($test:expr) => {
        // SAFETY: no pointers.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("SKIPPED: {}: wants root", $test);
            return;
        }
    };
}

fn paused<'fd>() -> Command<'fd> {
    let mut command = Command::new(pause());
    command.fd(0, Null);
    command
}

/// The words of a line of `/proc/PID/status`.
fn status(process: &str, name: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let start = format!("{name}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
    line.split_whitespace().map(String::from).collect()
}

fn numbers(child: &Child, name: &str) -> Vec<u32> {
    let words = status(&child.id().unwrap().to_string(), name);
    words.iter().map(|word| word.parse().unwrap()).collect()
}

fn capabilities_of(child: &Child, name: &str) -> u64 {
    let words = status(&child.id().unwrap().to_string(), name);
    u64::from_str_radix(&words[0], 16).unwrap()
}

/// Spawns, looks at the standing program, ends it.
fn look(command: &Command<'_>, at: impl FnOnce(&Child)) {
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{error}"));
    at(&child);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn words_of_plan(command: &Command<'_>) -> Vec<String> {
    let mut prepared = command.prepare().unwrap();
    let opened = prepared.open().unwrap();
    let plan = opened.plan();
    plan.steps().iter().map(|&step| plan.show(step).to_string()).collect()
}

/// What `id` says.
fn id(arguments: &[&str]) -> BTreeSet<u32> {
    let output = StdCommand::new("id").args(arguments).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

/// A user who is in some group besides his own, if there is one.
fn user_with_groups() -> Option<(String, u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let users = passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        Some((fields[0].to_string(), fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    });
    users.max_by_key(|(name, ..)| id(&["-G", name]).len())
}

#[test]
fn real_effective_saved_and_file_system_ids_are_those_asked_for() {
    root_only!("real_effective_saved_and_file_system_ids_are_those_asked_for");
    look(paused().uid(UID).gid(GID).groups([7, 0, 4_000_000_000]), |child| {
        assert_eq!(numbers(child, "Uid"), [UID; 4]);
        assert_eq!(numbers(child, "Gid"), [GID; 4]);
        assert_eq!(numbers(child, "Groups"), [0, 7, 4_000_000_000]);
    });
    // One alone leaves the others.
    let groups = status("self", "Groups");
    look(paused().gid(GID), |child| {
        assert_eq!(numbers(child, "Uid"), [0; 4]);
        assert_eq!(numbers(child, "Gid"), [GID; 4]);
        assert_eq!(status(&child.id().unwrap().to_string(), "Groups"), groups);
    });
}

#[test]
fn an_empty_list_of_groups_is_none_and_kept_groups_are_the_parents() {
    let name = "an_empty_list_of_groups_is_none_and_kept_groups_are_the_parents";
    root_only!(name);
    in_subprocess(name, || {
        let mine = [3, 5, 8];
        // SAFETY: three ids are read; the process is the test's own.
        assert_eq!(unsafe { libc::setgroups(mine.len(), mine.as_ptr()) }, 0);
        look(paused().uid(UID).groups([]), |child| {
            assert_eq!(numbers(child, "Groups"), []);
        });
        look(paused().uid(UID).keep_groups(), |child| {
            assert_eq!(numbers(child, "Uid"), [UID; 4]);
            assert_eq!(numbers(child, "Groups"), mine);
        });
    });
}

#[test]
fn a_user_by_name_is_who_id_says() {
    root_only!("a_user_by_name_is_who_id_says");
    let (name, uid, gid) = user_with_groups().unwrap();
    let groups = id(&["-G", &name]);
    let set = |child: &Child| BTreeSet::from_iter(numbers(child, "Groups"));
    look(paused().user(&name), |child| {
        assert_eq!(numbers(child, "Uid"), [uid; 4]);
        assert_eq!(numbers(child, "Gid"), [gid; 4]);
        assert_eq!(set(child), groups);
    });
    look(paused().uid(UID).gid(GID).init_groups(&name), |child| {
        assert_eq!((numbers(child, "Uid"), numbers(child, "Gid")), (vec![UID; 4], vec![GID; 4]));
        // As initgroups(3): the gid given, and those that list the user.
        let mut expected = groups.clone();
        expected.remove(&gid);
        let mut found = set(child);
        assert!(found.remove(&GID));
        found.remove(&gid);
        assert_eq!(found, expected);
    });
    // What is said by number takes precedence.
    look(paused().user(&name).uid(UID).groups([]), |child| {
        assert_eq!((numbers(child, "Uid"), numbers(child, "Gid")), (vec![UID; 4], vec![gid; 4]));
        assert_eq!(numbers(child, "Groups"), []);
    });
}

#[test]
fn what_cannot_be_is_refused_before_anything_happens() {
    let refused = |command: &Command<'_>| command.prepare().unwrap_err();
    assert_eq!(refused(paused().uid(UID)), PlanError::UidWithoutGroups);
    assert_eq!(refused(paused().uid(0).gid(0)), PlanError::UidWithoutGroups);
    let value = i64::from(u32::MAX);
    let out = |what| PlanError::OutOfRange { what, value };
    assert_eq!(refused(paused().uid(u32::MAX).groups([])), out("uid"));
    assert_eq!(refused(paused().gid(u32::MAX)), out("gid"));
    assert_eq!(refused(paused().groups([1, u32::MAX])), out("group"));
    assert_eq!(out("uid").to_string(), "uid can't be 4294967295");

    let error = refused(paused().user("no such user"));
    assert_eq!(error, PlanError::UnknownUser { name: "no such user".into() });
    assert_eq!(error.to_string(), "there is no user \"no such user\"");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // With a gid given, nothing but the groups is asked of the name.
    let error = refused(paused().uid(UID).gid(GID).init_groups("no such user"));
    assert_eq!(error, PlanError::UnknownUser { name: "no such user".into() });

    let net = Capabilities::NET_ADMIN;
    let error = refused(paused().bounding_set(Capabilities::CHOWN).ambient_capabilities(net));
    assert!(matches!(error, PlanError::Contradiction { .. }), "{error}");
}

#[test]
fn groups_gid_uid_is_the_order_whatever_the_order_of_the_calls() {
    let mut command = paused();
    command.no_new_privs().uid(UID).ambient_capabilities(Capabilities::CHOWN).gid(GID);
    command.securebits(1).groups([4, 5]).bounding_set(Capabilities::CHOWN);
    let words = words_of_plan(&command);
    let expected = [
        "prctl PR_CAPBSET_DROP, all but 0x1",
        "prctl PR_SET_KEEPCAPS 1",
        "setgroups [4, 5]",
        "setresgid 23456",
        "setresuid 12345",
        "capset 0x1, and CAP_SETPCAP until exec",
        "prctl PR_CAP_AMBIENT_RAISE 0x1",
        "prctl PR_SET_SECUREBITS 0x1",
        "prctl PR_SET_NO_NEW_PRIVS 1",
    ];
    let start = words.iter().position(|word| word == expected[0]).unwrap();
    assert_eq!(words[start..start + expected.len()], expected);
    // Without ambient capabilities nothing is kept, so what sets bits comes before.
    let mut command = paused();
    let words = words_of_plan(command.uid(UID).keep_groups().securebits(1));
    let start = words.iter().position(|word| word == "prctl PR_SET_SECUREBITS 0x1").unwrap();
    assert_eq!(words[start + 1], "setresuid 12345");
}

#[test]
fn whoever_lost_privileges_has_no_way_back() {
    root_only!("whoever_lost_privileges_has_no_way_back");
    look(paused().uid(UID).gid(GID).groups([]), |child| {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(capabilities_of(child, set), 0, "{set}");
        }
    });
    // The control: root's are not empty.
    look(paused().groups([]), |child| assert_ne!(capabilities_of(child, "CapEff"), 0));
    // The program itself tries.
    for options in [&["--reuid=0", "--keep-groups"][..], &["--clear-groups"]] {
        let mut attempt = Command::new("setpriv");
        attempt.args(options).arg("true").fd(0, Null).fd(1, Null).fd(2, Null);
        assert!(attempt.spawn().unwrap().wait().unwrap().success(), "{options:?} of root");
        attempt.uid(UID).gid(GID).groups([]);
        assert!(!attempt.spawn().unwrap().wait().unwrap().success(), "{options:?}");
    }
}

#[test]
fn a_change_of_ids_is_made_in_a_copy_and_leaves_the_parent_dumpable() {
    let name = "a_change_of_ids_is_made_in_a_copy_and_leaves_the_parent_dumpable";
    root_only!(name);
    in_subprocess(name, || {
        // SAFETY: no pointers.
        let dumpable = || unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
        assert_eq!(dumpable(), 1);
        let chown = Capabilities::CHOWN;
        let changes: [Change<'_>; 7] = [
            &|c| c.uid(UID).groups([]),
            &|c| c.gid(GID),
            &|c| c.groups([1]),
            &|c| c.ambient_capabilities(chown),
            &|c| c.bounding_set(chown),
            &|c| c.securebits(1),
            &|c| c.user("root"),
        ];
        for change in changes {
            let mut prepared = change(&mut paused()).prepare().unwrap();
            let opened = prepared.open().unwrap();
            let shares = |step: &Step| matches!(step, Step::Unshare { .. });
            assert!(!opened.plan().steps().iter().any(shares), "{}", opened.plan());
            let mut child = opened.spawn().unwrap();
            assert_eq!(dumpable(), 1);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(status("self", "Uid"), ["0"; 4]);
    });
}

#[test]
fn the_bounding_set_is_what_was_asked_for() {
    root_only!("the_bounding_set_is_what_was_asked_for");
    let keep = Capabilities::CHOWN | Capabilities::NET_BIND_SERVICE;
    for keep in [keep, Capabilities::empty()] {
        look(paused().bounding_set(keep), |child| {
            assert_eq!(capabilities_of(child, "CapBnd"), keep.bits());
            // Root's exec gives no more than that.
            assert_eq!(capabilities_of(child, "CapPrm"), keep.bits());
        });
    }
    look(paused().bounding_set(Capabilities::all()), |child| {
        let pid = child.id().unwrap().to_string();
        assert_eq!(status(&pid, "CapBnd"), status("self", "CapBnd"));
    });
}

#[test]
fn ambient_capabilities_outlive_the_change_of_user() {
    root_only!("ambient_capabilities_outlive_the_change_of_user");
    let wanted = Capabilities::NET_BIND_SERVICE | Capabilities::CHOWN;
    let mut command = paused();
    command.uid(UID).gid(GID).groups([]).ambient_capabilities(wanted);
    look(&command, |child| {
        assert_eq!(numbers(child, "Uid"), [UID; 4]);
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(capabilities_of(child, set), wanted.bits(), "{set}");
        }
    });
    look(command.bounding_set(wanted).no_new_privs(), |child| {
        assert_eq!(capabilities_of(child, "CapBnd"), wanted.bits());
        assert_eq!(capabilities_of(child, "CapAmb"), wanted.bits());
    });
    // One that no kernel has is refused where it is set, by name.
    let unknown = Capabilities::from_bits_retain(1 << 63);
    let error = paused().ambient_capabilities(unknown).spawn().unwrap_err();
    assert!(error.description().unwrap().starts_with("prctl PR_CAP_AMBIENT_RAISE"), "{error}");
}

#[test]
fn securebits_and_no_new_privs_are_the_programs() {
    let shell = |command: &mut Command<'_>| {
        command.args(["-c", "grep NoNewPrivs /proc/self/status"]).fd(0, Null).fd(1, ReadPipe);
        let mut child = command.spawn().unwrap();
        let text = std::io::read_to_string(fs::File::from(child.take(1).unwrap())).unwrap();
        assert!(child.wait().unwrap().success());
        text.trim().chars().last()
    };
    assert_eq!(shell(Command::new("sh").no_new_privs()), Some('1'));
    assert_eq!(shell(&mut Command::new("sh")), Some('0'));

    root_only!("securebits_and_no_new_privs_are_the_programs");
    // SECBIT_NOROOT: root's exec gives nothing.
    look(paused().securebits(1), |child| assert_eq!(capabilities_of(child, "CapPrm"), 0));
    let error = paused().securebits(1 << 31).spawn().unwrap_err();
    assert_eq!(error.description(), Some("prctl PR_SET_SECUREBITS 0x80000000"));
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
}

#[test]
fn an_unprivileged_parent_is_told_which_step_it_may_not_take() {
    let name = "an_unprivileged_parent_is_told_which_step_it_may_not_take";
    root_only!(name);
    in_subprocess(name, || {
        // SAFETY: no pointers but to no groups; the process is the test's own.
        unsafe {
            assert_eq!(libc::setgroups(0, core::ptr::null()), 0);
            assert_eq!(libc::setresgid(1000, 1000, 1000), 0);
            assert_eq!(libc::setresuid(1000, 1000, 1000), 0);
        }
        let before = fds_of_self();
        let refused = |change: Change<'_>, words: &str| {
            let mut command = Command::new("/bin/true");
            command.fd(0, Null).fd(1, ReadPipe);
            let error = change(&mut command).spawn().unwrap_err();
            assert_eq!(error.to_string(), format!("{words}: Operation not permitted"));
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(no_child_is_left());
            assert_eq!(fds_of_self(), before);
        };
        refused(&|c| c.uid(0).keep_groups(), "setresuid 0");
        refused(&|c| c.gid(0), "setresgid 0");
        refused(&|c| c.groups([0, 1]), "setgroups [0, 1]");
        refused(&|c| c.uid(0).gid(0).groups([]), "setgroups []");
        let chown = Capabilities::CHOWN;
        refused(&|c| c.ambient_capabilities(chown), "capset 0x1");
        let words = "prctl PR_CAPBSET_DROP, all but 0x1";
        refused(&|c| c.bounding_set(chown), words);
        refused(&|c| c.securebits(1), "prctl PR_SET_SECUREBITS 0x1");
        // The control: what it is already, it may become.
        let mut command = Command::new("/bin/true");
        command.fd(0, Null).uid(1000).gid(1000).keep_groups();
        assert!(command.spawn().unwrap().wait().unwrap().success());
        assert!(no_child_is_left());
    });
}

/// `SECBIT_NOROOT`, `NO_SETUID_FIXUP`, `NO_CAP_AMBIENT_RAISE`, and the locks of these
/// and of `KEEP_CAPS`.
const SECUREBITS: u32 = 0b1110_1111;

#[test]
fn securebits_forbid_no_ambient_capabilities_asked_for_beside_them() {
    const KEY: &str = "FORKPLAN_TEST_SECUREBITS";
    let name = "securebits_forbid_no_ambient_capabilities_asked_for_beside_them";
    // Who may not see the directory of this test sees it with the second.
    let wanted = Capabilities::CHOWN | Capabilities::DAC_OVERRIDE;
    if let Some(uid) = std::env::var_os(KEY) {
        // The program.
        assert_eq!(status("self", "Uid")[0], uid.to_str().unwrap());
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status("self", set), [format!("{:016x}", wanted.bits())], "{set}");
        }
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_SECUREBITS) }, SECUREBITS as i32);
        return;
    }
    root_only!(name);
    for uid in [0, UID] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name]).env(KEY, uid.to_string()).fd(0, Null).fd(1, Null);
        command.fd(2, std::io::stderr()).securebits(SECUREBITS).ambient_capabilities(wanted);
        if uid != 0 {
            command.uid(uid).gid(GID).groups([]);
        }
        // What is kept for the bits may go from the bounding set.
        for bounding in [Capabilities::all(), wanted] {
            let mut child = command.bounding_set(bounding).spawn().unwrap();
            assert!(child.wait().unwrap().success(), "{uid}, {bounding:?}");
        }
    }
}

/// With the bits first the capabilities would be refused.
#[test]
fn control_securebits_forbid_what_comes_after_them() {
    let name = "control_securebits_forbid_what_comes_after_them";
    root_only!(name);
    in_subprocess(name, || {
        let errno = || std::io::Error::last_os_error().raw_os_error();
        // SAFETY: reads and writes the sets of version 3, all of this thread; the
        // process is the test's own.
        unsafe {
            let header = [0x2008_0522, 0];
            let mut sets = [0u32; 6];
            assert_eq!(libc::syscall(libc::SYS_capget, &raw const header, &raw mut sets), 0);
            // CAP_CHOWN is inheritable.
            sets[2] |= 1;
            assert_eq!(libc::syscall(libc::SYS_capset, &raw const header, &raw const sets), 0);
            let raise = || libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, 0, 0, 0);
            let keep = || libc::prctl(libc::PR_SET_KEEPCAPS, 1);
            assert_eq!([raise(), keep()], [0, 0]);
            assert_eq!(libc::prctl(libc::PR_SET_SECUREBITS, SECUREBITS), 0);
            assert_eq!((raise(), errno()), (-1, Some(libc::EPERM)));
            assert_eq!((keep(), errno()), (-1, Some(libc::EPERM)));
        }
    });
}

/// glibc says then that there are none; musl gives up.
#[test]
fn groups_that_can_not_be_read_are_no_reason_to_ask_for_ever() {
    let name = "groups_that_can_not_be_read_are_no_reason_to_ask_for_ever";
    root_only!(name);
    in_subprocess(name, || {
        support::mounts::with_shared_mounts();
        let (mem, none) = (c"/proc/self/mem".as_ptr(), core::ptr::null());
        // SAFETY: the kernel reads the strings and the limit. No mount that is made
        // here is seen elsewhere, and nobody needs more memory.
        unsafe {
            let group = c"/etc/group".as_ptr();
            assert_eq!(libc::mount(mem, group, none, libc::MS_BIND, none.cast()), 0);
            let limit = libc::rlimit { rlim_cur: 4 << 30, rlim_max: 4 << 30 };
            assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &limit), 0);
        }
        assert!(fs::read("/etc/group").is_err());
        match Command::new("true").uid(0).init_groups("root").prepare() {
            Ok(_) => {}
            Err(PlanError::System { call: "getgrouplist", errno: libc::EIO }) => {}
            Err(error) => panic!("{error}"),
        }
    });
}
