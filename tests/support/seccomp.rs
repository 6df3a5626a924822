//! Seccomp filters for one thread: refuse a syscall, or kill who makes it.
//!
//! A filter is inherited by the children of its thread and can't be taken off,
//! so the thread is one of its own and ends with the test.

use std::fs;
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
    /// The lower half of an argument is not this.
    IsNot { argument: u32, value: u32 },
    /// The lower half of an argument has one of these bits.
    Has { argument: u32, bits: u32 },
    /// The lower half of an argument is outside of `from..from + len`.
    Outside { argument: u32, from: u32, len: u32 },
    /// The lower half of the address of the call is in `from..from + len`.
    From { from: u32, len: u32 },
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

    /// The call is held: for [`super::held::holding`].
    pub(crate) fn hold(number: libc::c_long) -> Self {
        Self::new(number, libc::SECCOMP_RET_USER_NOTIF)
    }

    /// The call is made, where others are not: for [`install_allowing`].
    pub(crate) fn allow(number: libc::c_long) -> Self {
        Self::new(number, libc::SECCOMP_RET_ALLOW)
    }

    fn new(number: libc::c_long, verdict: u32) -> Self {
        Self { number, conditions: Vec::new(), verdict }
    }

    /// The call that it is about.
    pub(crate) fn call(&self) -> libc::c_long {
        self.number
    }

    /// Only calls whose argument (from 0) has this value.
    pub(crate) fn with(mut self, argument: u32, value: i32) -> Self {
        let value = value as u32;
        self.conditions.push(Condition::Is { argument, value });
        self
    }

    /// Only calls whose argument (from 0) has another value.
    pub(crate) fn without(mut self, argument: u32, value: i32) -> Self {
        let value = value as u32;
        self.conditions.push(Condition::IsNot { argument, value });
        self
    }

    /// Only calls that this program makes itself, and not through a library: the
    /// child's and not the parent's. `None` where libc is part of the program.
    pub(crate) fn by_this_program(mut self) -> Option<Self> {
        let here = Self::by_this_program as *const () as usize;
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let code = maps.lines().find_map(|line| {
            let (from, rest) = line.split_once('-')?;
            let (to, _) = rest.split_once(' ')?;
            let [from, to] = [from, to].map(|number| usize::from_str_radix(number, 16).unwrap());
            (from..to).contains(&here).then_some(from..to)
        });
        let code = code.unwrap();
        if code.contains(&(libc::close as *const () as usize)) {
            return None;
        }
        let len = u32::try_from(code.len()).unwrap();
        self.conditions.push(Condition::From { from: code.start as u32, len });
        Some(self)
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
        const CALL_AT: u32 = 8;

        let holds = |code, k| (code, k, Some(true));
        let fails = |code, k| (code, k, Some(false));
        let mut body = vec![(LOAD, 0, None), holds(EQUAL, self.number as u32)];
        for &condition in &self.conditions {
            match condition {
                Condition::Is { argument, value } => {
                    body.extend([(LOAD, argument_at(argument), None), holds(EQUAL, value)]);
                }
                Condition::IsNot { argument, value } => {
                    body.extend([(LOAD, argument_at(argument), None), fails(EQUAL, value)]);
                }
                Condition::Has { argument, bits } => {
                    body.extend([(LOAD, argument_at(argument), None), holds(ANY_BIT, bits)]);
                }
                Condition::Outside { argument, from, len } => {
                    body.extend([(LOAD, argument_at(argument), None), (MINUS, from, None)]);
                    body.push(holds(AT_LEAST, len));
                }
                Condition::From { from, len } => {
                    body.extend([(LOAD, CALL_AT, None), (MINUS, from, None)]);
                    body.push(fails(AT_LEAST, len));
                }
            }
        }
        let count = body.len();
        for (i, (code, k, goes_on_if)) in body.into_iter().enumerate() {
            // Past the rest and the verdict.
            let past = (count - i) as u8;
            let (jt, jf) = match goes_on_if {
                None => (0, 0),
                Some(true) => (0, past),
                Some(false) => (past, 0),
            };
            program.push(libc::sock_filter { code: code as u16, jt, jf, k });
        }
        program.push(ret(self.verdict));
    }
}

fn ret(verdict: u32) -> libc::sock_filter {
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    libc::sock_filter { code, jt: 0, jf: 0, k: verdict }
}

/// Nothing can be opened by its path.
pub(crate) fn no_open(errno: i32) -> Vec<Rule> {
    let mut calls = vec![libc::SYS_openat, libc::SYS_openat2];
    // Newer architectures never had it.
    #[cfg(target_arch = "x86_64")]
    calls.push(libc::SYS_open);
    calls.into_iter().map(|call| Rule::errno(call, errno)).collect()
}

/// Puts a filter on this thread, for good.
pub(crate) fn install(rules: &[Rule]) {
    load(rules, libc::SECCOMP_RET_ALLOW, 0);
}

/// As above, but whoever makes a call without a rule is killed by `SIGSYS`.
pub(crate) fn install_allowing(rules: &[Rule]) {
    load(rules, libc::SECCOMP_RET_KILL_PROCESS, 0);
}

/// As the first, and returns the number of an fd by which calls that are held are
/// told. It is CLOEXEC, and the caller's.
pub(crate) fn install_with_listener(rules: &[Rule]) -> i32 {
    load(rules, libc::SECCOMP_RET_ALLOW, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)
}

/// As above, but every call without a rule is held; [`Rule::allow`] is for others.
pub(crate) fn install_with_listener_to_all(rules: &[Rule]) -> i32 {
    load(rules, libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)
}

fn load(rules: &[Rule], otherwise: u32, flags: libc::c_ulong) -> i32 {
    let mut program = Vec::new();
    rules.iter().for_each(|rule| rule.write(&mut program));
    program.push(ret(otherwise));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: no pointers. Without this only root may set a filter.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the kernel copies the program.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter)
    };
    assert!(result >= 0, "seccomp: {}", std::io::Error::last_os_error());
    result as i32
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
