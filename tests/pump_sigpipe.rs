//! A program that leaves SIGPIPE at its default is not killed by what its
//! children do with their stdin. Each test runs in a process of its own, where
//! Rust's runtime has ignored the signal and the test sets it back.

#[path = "support/pump.rs"]
mod support;

use std::os::unix::process::ExitStatusExt;

use forkplan::{Channel, CloseReason};
use support::{Driver, alone, in_own_process, refuse_syscall};

fn default_sigpipe() {
    // SAFETY: there is no handler in this process that this could take away.
    let old = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    assert_eq!(old, libc::SIG_IGN);
}

/// Whether SIGPIPE has its default action, and is neither blocked nor pending.
fn assert_untouched() {
    // SAFETY: both write what they are given; all zero is a valid sigaction.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        let (mut mask, mut pending) = (core::mem::zeroed(), core::mem::zeroed());
        libc::sigaction(libc::SIGPIPE, core::ptr::null(), &mut action);
        libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), &mut mask);
        libc::sigpending(&mut pending);
        assert_eq!(action.sa_sigaction, libc::SIG_DFL);
        assert_eq!(libc::sigismember(&mask, libc::SIGPIPE), 0);
        assert_eq!(libc::sigismember(&pending, libc::SIGPIPE), 0);
    }
}

/// Writes to a child that has closed its end: at once, and out of the queue.
fn write_to_closed(fd: i32, channel: &Channel<'static>) {
    for queued in [false, true] {
        let mut driver = Driver::new();
        let mut agent = driver.agent(|command| {
            command.fd(fd, channel.clone());
        });
        let key = agent.key;
        let bytes = vec![b'x'; 400_000];
        let mut taken = 0;
        if queued {
            taken = driver.pump.write(key, fd, &bytes).unwrap();
            assert!(driver.pump.queued(key, fd).unwrap() > 0);
        }
        agent.ask(&format!("exec {fd}>&-"));
        if !queued {
            taken = driver.pump.write(key, fd, &bytes).unwrap();
            assert_eq!(taken, bytes.len());
        }
        driver.until(|d| d.closed(key, &fd.to_string()).is_some());
        let (reason, unsent) = driver.closed(key, &fd.to_string()).unwrap();
        assert_eq!(reason, CloseReason::Peer);
        assert!(unsent > 0 && unsent <= taken);
        drop(agent);
        driver.finish();
    }
}

#[test]
fn a_pipe_without_reader_does_not_kill() {
    alone("a_pipe_without_reader_does_not_kill", || {
        default_sigpipe();
        write_to_closed(0, &Channel::WritePipe);
        assert_untouched();
    });
}

#[test]
fn a_pipe_without_reader_does_not_kill_where_the_kernel_has_no_flag_for_it() {
    alone("a_pipe_without_reader_does_not_kill_where_the_kernel_has_no_flag_for_it", || {
        default_sigpipe();
        for errno in [libc::EOPNOTSUPP, libc::ENOSYS, libc::EPERM, libc::EINVAL] {
            // The last filter decides.
            refuse_syscall(libc::SYS_pwritev2, errno);
            write_to_closed(0, &Channel::WritePipe);
            assert_untouched();
        }
    });
}

#[test]
fn a_socket_without_peer_does_not_kill() {
    alone("a_socket_without_peer_does_not_kill", || {
        default_sigpipe();
        write_to_closed(3, &Channel::SocketPair);
        assert_untouched();
    });
}

// The hazard is there: the same, written by the caller himself.
fn plain_write(name: &str, channel: &Channel<'static>) {
    let status = in_own_process(name, || {
        default_sigpipe();
        let mut child = forkplan::Command::new("sh")
            .args(["-c", "exec 3<&-; echo closed; read -r line"])
            .fd(0, Channel::Null)
            .fd(1, Channel::ReadPipe)
            .fd(3, channel.clone())
            .spawn()
            .unwrap();
        let mut stdout = std::process::ChildStdout::from(child.take(1).unwrap());
        std::io::Read::read_exact(&mut stdout, &mut [0; 7]).unwrap();
        let mut end = std::fs::File::from(child.take(3).unwrap());
        let _ = std::io::Write::write(&mut end, b"x");
    });
    if let Some(status) = status {
        assert_eq!(status.signal(), Some(libc::SIGPIPE), "{status}");
    }
}

#[test]
fn control_a_plain_write_to_a_pipe_without_reader_kills() {
    plain_write("control_a_plain_write_to_a_pipe_without_reader_kills", &Channel::WritePipe);
}

#[test]
fn control_a_plain_write_to_a_socket_without_peer_kills() {
    plain_write("control_a_plain_write_to_a_socket_without_peer_kills", &Channel::SocketPair);
}
