//! Seccomp filters for one thread: refuse a syscall, or kill who makes it.
//!
//! A filter is inherited by the children of its thread and can't be taken off,
//! so the thread is one of its own and ends with the test.

use std::thread;

/// Which calls a rule is about, and what becomes of them.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    number: libc::c_long,
    conditions: Vec<Condition>,
    verdict: u32,
}

#[derive(Clone, Copy, Debug)]
enum Condition {
    /// The lower half of an argument is this.
    Is { argument: u32, value: u32 },
    /// The lower half of an argument has one of these bits.
    Has { argument: u32, bits: u32 },
    /// The lower half of an argument is outside of `from..from + len`.
    Outside { argument: u32, from: u32, len: u32 },
}

impl Rule {
    /// The call fails with `errno`, and is not made.
    pub(crate) fn errno(number: libc::c_long, errno: i32) -> Self {
        Self::new(number, libc::SECCOMP_RET_ERRNO | errno as u32)
    }

    /// Whoever makes the call is killed by `SIGSYS`.
    pub(crate) fn kill(number: libc::c_long) -> Self {
        Self::new(number, libc::SECCOMP_RET_KILL_PROCESS)
    }

    /// The call is made, where others are not: for [`install_allowing`].
    pub(crate) fn allow(number: libc::c_long) -> Self {
        Self::new(number, libc::SECCOMP_RET_ALLOW)
    }

    fn new(number: libc::c_long, verdict: u32) -> Self {
        Self { number, conditions: Vec::new(), verdict }
    }

    /// Only calls whose argument (from 0) has this value.
    pub(crate) fn with(mut self, argument: u32, value: i32) -> Self {
        let value = value as u32;
        self.conditions.push(Condition::Is { argument, value });
        self
    }

    /// Only calls whose argument (from 0) has one of these bits.
    pub(crate) fn having(mut self, argument: u32, bits: i32) -> Self {
        self.conditions.push(Condition::Has { argument, bits: bits as u32 });
        self
    }

    /// Only calls whose argument (from 0) does not point into the stack that
    /// the calling function and all that it calls use: not the parent's calls.
    pub(crate) fn unless_on_this_stack(mut self, argument: u32) -> Self {
        const LEN: u32 = 1 << 20;
        let local = 0u64;
        // The stack grows down; some frames of callers may lie in it too.
        let top = (&raw const local as usize as u32).wrapping_add(4096);
        self.conditions.push(Condition::Outside {
            argument,
            from: top.wrapping_sub(LEN),
            len: LEN,
        });
        self
    }

    /// Jumps over the verdict unless the call is the rule's.
    fn write(&self, program: &mut Vec<libc::sock_filter>) {
        const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
        const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
        const MINUS: u32 = libc::BPF_ALU | libc::BPF_SUB | libc::BPF_K;
        // Of `struct seccomp_data`, on a little-endian machine.
        let argument_at = |argument: u32| 16 + 8 * argument;

        let mut body: Vec<(u32, u32, bool)> = vec![(LOAD, 0, false)];
        body.push((EQUAL, self.number as u32, true));
        for &condition in &self.conditions {
            match condition {
                Condition::Is { argument, value } => {
                    body.push((LOAD, argument_at(argument), false));
                    body.push((EQUAL, value, true));
                }
                Condition::Has { argument, bits } => {
                    body.push((LOAD, argument_at(argument), false));
                    body.push((ANY_BIT, bits, true));
                }
                Condition::Outside { argument, from, len } => {
                    body.push((LOAD, argument_at(argument), false));
                    body.push((MINUS, from, false));
                    body.push((AT_LEAST, len, true));
                }
            }
        }
        let count = body.len();
        for (i, (code, k, decides)) in body.into_iter().enumerate() {
            // Past the rest and the verdict.
            let jf = if decides { (count - i) as u8 } else { 0 };
            program.push(libc::sock_filter { code: code as u16, jt: 0, jf, k });
        }
        program.push(ret(self.verdict));
    }
}

fn ret(verdict: u32) -> libc::sock_filter {
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    libc::sock_filter { code, jt: 0, jf: 0, k: verdict }
}

/// Puts a filter on this thread, for good.
pub(crate) fn install(rules: &[Rule]) {
    load(rules, libc::SECCOMP_RET_ALLOW);
}

/// As above, but whoever makes a call without a rule is killed by `SIGSYS`.
pub(crate) fn install_allowing(rules: &[Rule]) {
    load(rules, libc::SECCOMP_RET_KILL_PROCESS);
}

fn load(rules: &[Rule], otherwise: u32) {
    let mut program = Vec::new();
    rules.iter().for_each(|rule| rule.write(&mut program));
    program.push(ret(otherwise));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: no pointers. Without this only root may set a filter.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the kernel copies the program.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter)
    };
    assert_eq!(result, 0, "seccomp: {}", std::io::Error::last_os_error());
}

/// Runs `body` in a thread under these rules.
pub(crate) fn under<T: Send>(rules: &[Rule], body: impl FnOnce() -> T + Send) -> T {
    under_made_there(|| rules.to_vec(), body)
}

/// As above, with rules that have to be made by the thread itself.
pub(crate) fn under_made_there<T: Send>(
    rules: impl FnOnce() -> Vec<Rule> + Send,
    body: impl FnOnce() -> T + Send,
) -> T {
    let thread = || {
        install(&rules());
        body()
    };
    thread::scope(|scope| match scope.spawn(thread).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
