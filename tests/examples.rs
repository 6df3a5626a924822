//! The examples, run as a user runs them.

#[path = "support/example.rs"]
mod example;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use example::example;

fn run(name: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(example(name))
        .args(args)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input is none of our business.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn spawn_without_arguments_counts_forty_lines_and_tells_every_event_in_order() {
    let output = run("spawn", &[], b"");
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains("I saw 40 lines."), "{said}");
    // The first of PATH's directories, where it is or not.
    assert!(said.contains("execve \"/usr/local/bin/wc\" [\"wc\"]"), "{said}");
    let at = |what: &str| said.find(what).unwrap_or_else(|| panic!("no {what:?} in {said}"));
    let (made, data, lost) = (at("made: "), at("data: 24 bytes on 1"), at("closed: 1, by Peer"));
    let (exited, ended) = (at("exited: exit status: 0"), at("ended: exit status: 0"));
    assert!(made < data && data < lost && lost < ended && exited < ended, "{said}");
    assert!(made < at("closed: 0, by Us") && at("closed: 2, by Peer") < ended, "{said}");
}

#[test]
fn spawn_explains_the_plan_of_a_swap_beside_two_pipes() {
    let args = ["--explain", "--fd", "1=2", "--fd", "2=1", "--fd", "7=w", "--fd", "9=r"];
    let output = run("spawn", &[&args[..], &["--", "cat"]].concat(), b"to stderr\n");
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    // The child's ends of the pipes have numbers that we can't know; the swap
    // takes three copies through a number that is free.
    for line in ["-> 7  (write pipe)", "-> 9  (read pipe)", "dup2 2 -> 1", "fcntl 0 F_SETFD 0"] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    assert!(said.contains("dup3 1 -> "), "{said}");
    assert!(said.contains("closed: 9, by Peer"), "{said}");
    // cat's 1 is our 2.
    assert_eq!(text(&output.stderr), "to stderr\n");
}

#[test]
fn spawn_talks_through_any_fd() {
    let script = "cat <&5 >&8";
    let args = ["--fd", "5=w", "--fd", "8=r", "--fd", "0=null", "--", "sh", "-c", script];
    let output = run("spawn", &args, b"through 5 and 8");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stdout), "through 5 and 8");

    let args = ["--fd", "6=s", "--fd", "0=null", "--", "sh", "-c", "cat <&6 >&6"];
    let output = run("spawn", &args, b"both ways through 6");
    assert_eq!(text(&output.stdout), "both ways through 6", "{output:?}");
}

#[test]
fn spawn_passes_on_how_the_program_ended() {
    assert_eq!(run("spawn", &["--", "sh", "-c", "exit 5"], b"").status.code(), Some(5));
    let killed = run("spawn", &["--", "sh", "-c", "kill -9 $$"], b"");
    assert_eq!(killed.status.code(), Some(128 + 9));
}

#[test]
fn spawn_names_the_step_that_failed() {
    let output = run("spawn", &["--fd", "3=99", "--", "true"], b"");
    assert_eq!(text(&output.stderr), "spawn: dup2 99 -> 3: Bad file descriptor\n");
    assert_eq!(output.status.code(), Some(127));
    let output = run("spawn", &["--", "/bin/nope"], b"");
    let expected = "spawn: execve \"/bin/nope\": No such file or directory\n";
    assert_eq!(text(&output.stderr), expected);
}

#[test]
fn spawn_explains_what_the_child_sets_up() {
    let steps = ["--chdir", "/usr", "--chdir", "bin", "--setsid", "--no-new-privs"];
    let more = ["--nice", "19", "--rlimit", "NOFILE=64:64", "--explain"];
    let program = ["--", "sh", "-c", "pwd; ulimit -n"];
    let output = run("spawn", &[&steps[..], &more, &program].concat(), b"");
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    let mut from = 0;
    for line in [
        "setsid\n",
        "chdir \"/usr\"\n",
        "chdir \"bin\"\n",
        "[64, 64]\n",
        "setpriority 19\n",
        "PR_SET_NO_NEW_PRIVS 1\n",
        "execve ",
    ] {
        let at = said[from..].find(line).unwrap_or_else(|| panic!("no {line:?} in {said}"));
        from += at + line.len();
    }
    // The program and the example write to one stdout, each when it gets to it:
    // lines of the one may stand between those of the other.
    for line in ["/usr/bin", "64"] {
        assert!(said[from..].lines().any(|said| said == line), "no {line:?} in {said}");
    }
}

#[test]
fn spawn_runs_a_program_as_somebody_else_in_another_root() {
    let ids = ["--chroot", "/", "--uid", "65534", "--gid", "65534"];
    let output = run("spawn", &[&ids[..], &["--explain", "--", "id", "-u"]].concat(), b"");
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a change of root and ids needs root; what is seen is the error");
        assert_eq!(output.status.code(), Some(127), "{output:?}");
        assert!(text(&output.stderr).contains("Operation not permitted"), "{output:?}");
        return;
    }
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    let order = ["chroot \"/\"", "setgroups []", "setresgid 65534", "setresuid 65534", "\n65534\n"];
    assert!(order.windows(2).all(|pair| said.find(pair[0]) < said.find(pair[1])), "{said}");
    assert!(order.iter().all(|line| said.contains(line)), "{said}");
}

#[test]
fn inetd_serves_one_client_on_one_socket() {
    let output = run("inetd", &[], b"");
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains("HELLO FROM THE CLIENT\nthat was all\n"), "{said}");
    assert!(said.contains("ends up as the child's Some(0)"), "{said}");
}

#[test]
fn gpg_decrypts_with_the_passphrase_on_3_and_tells_its_status_on_4() {
    if Command::new("gpg").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no gpg on this machine");
        return;
    }
    let output = run("gpg", &[], b"");
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains("status: [GNUPG:] DECRYPTION_OKAY"), "{said}");
    assert!(said.contains("plaintext: Attack at dawn."), "{said}");
}

#[test]
fn listen_serves_on_the_sockets_it_is_given_and_refuses_those_of_another() {
    let output = run("listen", &[], b"");
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    let expected = ["getpid, written into the environment", "\"HELLO, SOCKETS\"", "somebody else"];
    for line in expected {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
}

#[test]
fn jobcontrol_hands_the_terminal_to_each_job_and_takes_it_back() {
    let output = run("jobcontrol", &[], b"");
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    let holders: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("shell: the terminal is"))
        .filter_map(|line| line.rsplit(": ").next())
        .collect();
    let expected = ["the shell", "the first job", "the second job", "the first job", "the shell"];
    assert_eq!(holders, expected, "{said}");
    for line in ["first job: the terminal says \"one\"", "second job: the terminal says \"two\""] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    assert!(said.contains("first job: the terminal says \"three\""), "{said}");
    assert!(said.ends_with("nobody was stopped by SIGTTOU\n"), "{said}");
}

#[test]
fn channels_serves_a_terminal_a_socket_and_pipes_by_a_protocol_each() {
    let output = run("channels", &[], b"");
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    // Each is the answer to the one before it, through another channel.
    let order = [
        "process: made, with the id ",
        "terminal: who is there?\n",
        "terminal: hello, Ada\n",
        "log: added 17\n",
        "log: added 4\n",
        "log: \"many\": invalid digit",
        "log: added 21\n",
        "log: that was all\n",
        "control: the sum is 42\n",
        "process: control was closed by Us\n",
        "process: ended, exit status: 0\n",
    ];
    let mut from = 0;
    for line in order {
        let at = said[from..].find(line).unwrap_or_else(|| panic!("no {line:?} in {said}"));
        from += at + line.len();
    }
    // The order of different channels is nobody's promise.
    let ledger: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("ledger: ")).collect();
    assert_eq!(ledger, ["17 in all", "21 in all", "42 in all"]);
    for line in
        ["numbers was closed by Us", "log was closed by Peer", "terminal was closed by Peer"]
    {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
}

#[test]
fn jail_keeps_a_shell_from_all_that_it_can_do_outside() {
    let output = run("jail", &[], b"");
    if output.status.code() == Some(77) {
        eprintln!("SKIPPED: {}", text(&output.stderr).trim_end());
        return;
    }
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    let expected = [
        "setgroups []",
        "setresgid 65534",
        "setresuid 65534",
        "prctl PR_SET_NO_NEW_PRIVS 1",
        "seccomp SECCOMP_SET_MODE_FILTER",
        "uid=65534 gid=65534 groups=65534",
    ];
    for line in expected {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    assert_eq!(said.matches("works outside; in the jail: exit status: ").count(), 5, "{said}");
}

/// valgrind makes a fork of every clone that shares memory, so what a child
/// stores in its parent's memory is lost there.
#[test]
fn under_an_emulator_that_forks_a_missing_program_is_not_reported_as_started() {
    let run = |program: &str| {
        let spawn = example("spawn");
        let mut valgrind = Command::new("valgrind");
        valgrind.arg("-q").arg(spawn).args(["--", program]).stdin(Stdio::null()).output()
    };
    let Ok(missing) = run("/bin/nope") else {
        // Straight to stderr, which the harness does not swallow.
        let _ = std::io::stderr().write_all(b"SKIPPED: there is no valgrind on this machine\n");
        return;
    };
    let said = text(&missing.stderr);
    let expected = "spawn: execve \"/bin/nope\": No such file or directory";
    assert!(said.contains(expected), "{said}");
    assert_eq!(missing.status.code(), Some(127));
    // Control: what is there is started.
    assert_eq!(run("/bin/true").unwrap().status.code(), Some(0));
}
