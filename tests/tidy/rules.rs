//! The rules: who may say what, and what to say instead.

use std::fmt;

use super::source::{Source, blank, closing_brace, has_word};

/// Which rooms a room may import from. A row a room, in the order of the way
/// through the house; whoever adds an import adds it here and in
/// `ARCHITECTURE.md`.
pub(crate) const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("plan", &["limits"]),
    ("sys", &["limits"]),
    ("postfork", &["plan", "sys"]),
    ("signal", &["sys"]),
    ("channel", &["sys"]),
    ("child", &["channel", "limits", "signal", "sys"]),
    // `OnDrop` is the child's; `Features` and an errno's words are sys's.
    ("command", &["channel", "child", "signal", "sys"]),
    ("spawn", &["channel", "child", "command", "limits", "plan", "postfork", "signal", "sys"]),
    ("pump", &["channel", "child", "limits", "signal", "sys"]),
    ("protocol", &["channel", "child", "limits", "pump", "signal", "sys"]),
    ("helpers", &["channel", "child", "command", "limits", "pump", "spawn", "sys"]),
    ("inherited", &["channel", "sys"]),
];

/// Rooms in which neither std nor alloc can be named: the compiler holds it as
/// long as nobody writes `extern crate`, and that is held here.
const CORE_ONLY: &[&str] = &["limits.rs", "plan/", "sys/", "postfork/", "signal.rs"];

/// What runs in the child.
const CHILD_CODE: &[&str] = &["postfork/", "sys/child_"];

const FILE_LINES_MAX: usize = 450;
const FUNCTION_LINES_MAX: usize = 70;

/// A line that may break a rule.
pub(crate) struct Exception {
    pub(crate) path: &'static str,
    pub(crate) code: &'static str,
    rule: &'static str,
}

pub(crate) const EXCEPTIONS: &[Exception] = &[
    // A promise that the user makes; what is done with it is in `sys`.
    Exception { path: "command/setup.rs", code: "pub unsafe fn pre_exec(", rule: "unsafe" },
    // The same: that nobody owns what the program was started with. The promise
    // is passed on at once, to what keeps one token for each such fd.
    Exception { path: "inherited/mod.rs", code: "pub unsafe fn new(", rule: "unsafe" },
    Exception { path: "inherited/mod.rs", code: "unsafe { Unowned::each(", rule: "unsafe" },
];

/// Where a ban holds.
enum Where {
    /// Everywhere but below these paths.
    Outside(&'static [&'static str]),
    /// Below these paths.
    Inside(&'static [&'static str]),
    Everywhere,
}

struct Ban {
    rule: &'static str,
    words: &'static [&'static str],
    holds: Where,
    instead: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        rule: "libc",
        words: &["libc"],
        holds: Where::Outside(&["sys/"]),
        instead: "call a function of `crate::sys`, or add one there",
    },
    Ban {
        rule: "unsafe",
        words: &["unsafe"],
        holds: Where::Outside(&["sys/", "postfork/", "spawn/"]),
        instead: "give `crate::sys` a safe function that does it",
    },
    Ban {
        rule: "std",
        words: &["std"],
        holds: Where::Inside(CORE_ONLY),
        instead: "use `core`; what needs std belongs to `command`, `spawn` or a room above",
    },
    Ban {
        rule: "alloc",
        words: &["alloc"],
        holds: Where::Inside(CORE_ONLY),
        instead: "let the caller lend the memory, as `FdMap` and the solver's cells do",
    },
    Ban {
        rule: "panics",
        words: &[
            "panic!",
            "assert!",
            "assert_eq!",
            "assert_ne!",
            "debug_assert!",
            "unreachable!",
            "unwrap",
            "expect",
        ],
        holds: Where::Inside(CHILD_CODE),
        instead: "return an `Errno`, which the report carries to the parent",
    },
    Ban {
        rule: "panics",
        words: &[" + ", " - ", " * ", " / ", " % ", "+=", "-=", "*="],
        holds: Where::Inside(CHILD_CODE),
        instead: "use `wrapping_add` and its like, which have no overflow check",
    },
    Ban {
        rule: "owner",
        words: &["P_ALL", "P_PGID", "waitpid(-1", "wait4(-1", "waitpid(0", "wait4(0"],
        holds: Where::Everywhere,
        instead: "wait for one child, by its pidfd or its pid: `sys::process::wait`",
    },
    Ban {
        rule: "owner",
        words: &["libc::signal(", "libc::sigset(", "libc::bsd_signal("],
        holds: Where::Everywhere,
        instead: "leave dispositions alone; block the signal in this thread",
    },
    Ban {
        rule: "owner",
        words: &[".lock(", "Mutex", "RwLock", "Condvar", "OnceLock", "LazyLock", "static mut"],
        holds: Where::Everywhere,
        instead: "take `&mut self`; a second thread has a clone of its own",
    },
    Ban {
        rule: "owner",
        words: &["thread::spawn", "thread::Builder", "thread::scope"],
        holds: Where::Everywhere,
        instead: "let the caller drive: a pollable fd and a deadline",
    },
    Ban {
        rule: "unfinished",
        words: &["todo!", "unimplemented!", "dbg!"],
        holds: Where::Everywhere,
        instead: "finish it, or leave it out and say so in the documentation",
    },
];

/// Said in comments as much as in code.
const UNFINISHED: &[&str] = &[concat!("FI", "XME"), concat!("X", "XX"), concat!("TO", "DO")];

/// A rule broken.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) rule: &'static str,
    path: String,
    line: usize,
    what: String,
    instead: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, path, line, what, instead } = self;
        write!(f, "src/{path}:{line}: [{rule}] {what}: {instead}")
    }
}

pub(crate) fn check(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |rule, line: usize, what: String, instead| {
        problems.push(Problem { rule, path: source.path.clone(), line, what, instead });
    };
    if source.lines.len() > FILE_LINES_MAX {
        let what = format!("{} lines", source.lines.len());
        add("length", FILE_LINES_MAX + 1, what, "split it: a file is read in one sitting");
    }
    for (line, what) in long_functions(source) {
        add("length", line, what, "give its parts names: a function is seen whole");
    }
    if source.room() != "lib" && !MAY_IMPORT.iter().any(|(room, _)| *room == source.room()) {
        let what = format!("the room `{}` is not on the map", source.room());
        add("imports", 1, what, "give it a row in tests/tidy/rules.rs and in ARCHITECTURE.md");
    }
    for (line, number) in source.lines.iter().zip(1..) {
        for word in UNFINISHED.iter().filter(|word| has_word(&line.text, word)) {
            add("unfinished", number, word.to_string(), "write what is so, not what should be");
        }
        if line.is_test {
            continue;
        }
        for (rule, what, instead) in broken(source, &line.code, line.modules) {
            let excepted = EXCEPTIONS.iter().any(|exception| {
                exception.rule == rule
                    && exception.path == source.path
                    && line.code.contains(exception.code)
            });
            if !excepted {
                add(rule, number, what, instead);
            }
        }
    }
    problems
}

type Broken = (&'static str, String, &'static str);

/// The rules that a line of code breaks.
fn broken(source: &Source, code: &str, modules: usize) -> Vec<Broken> {
    let below = |paths: &[&str]| paths.iter().any(|path| source.path.starts_with(path));
    let mut broken = Vec::new();
    // Blanks in a call make no difference.
    let dense = code.replace("( ", "(");
    for ban in BANS {
        let holds = match ban.holds {
            Where::Outside(paths) => !below(paths),
            Where::Inside(paths) => below(paths),
            Where::Everywhere => true,
        };
        let found = ban.words.iter().find(|word| holds && has_word(&dense, word));
        broken.extend(found.map(|word| (ban.rule, format!("`{}`", word.trim()), ban.instead)));
    }
    if !below(&["sys/"]) && asks_for_the_platform(code) {
        let instead = "give `crate::sys` one name for it on all platforms";
        broken.push(("cfg", "a platform is asked for".into(), instead));
    }
    if below(CHILD_CODE) && indexes(code) {
        let instead = "walk with an iterator or a pointer: an index may panic";
        broken.push(("panics", "an index".into(), instead));
    }
    if sets_a_disposition(&dense) && !below(&["sys/child_"]) {
        let instead = "pass a null action, which asks: the parent's dispositions are not ours";
        broken.push(("owner", "`sigaction` with an action".into(), instead));
    }
    broken.extend(imports(source, code, modules));
    broken
}

fn asks_for_the_platform(code: &str) -> bool {
    let asks = ["cfg(", "cfg!(", "cfg_attr("].iter().any(|word| has_word(code, word));
    let platform = |word: &&str| has_word(code, word);
    asks && (code.contains("target_") || ["linux", "raw_syscalls", "unix"].iter().any(platform))
}

/// `a[i]`, `f()[i]`, `a[i][k]`: a bracket right after a value.
fn indexes(code: &str) -> bool {
    code.match_indices('[').any(|(at, _)| {
        let before = code[..at].chars().next_back();
        before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ')' | ']'))
    })
}

fn sets_a_disposition(code: &str) -> bool {
    code.split("libc::sigaction(").skip(1).any(|arguments| {
        let action = arguments.split(',').nth(1).unwrap_or_default();
        !action.contains("null()")
    })
}

/// Imports that the map does not have.
fn imports(source: &Source, code: &str, modules: usize) -> Vec<Broken> {
    let mut broken = Vec::new();
    let room = source.room();
    let allowed = MAY_IMPORT.iter().find(|(name, _)| *name == room).map_or(&[][..], |row| row.1);
    for (at, _) in code.match_indices("crate::") {
        let from: String =
            code[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if room != "lib" && from != room && !allowed.contains(&from.as_str()) {
            let what = format!("`crate::{from}` in `{room}`");
            let instead = "see the map of rooms in ARCHITECTURE.md; one `use crate::room` a room";
            broken.push(("imports", what, instead));
        }
    }
    let supers = code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    let most = supers.map(|path| path.matches("super::").count()).max().unwrap_or(0);
    if room != "lib" && most > source.depth() + modules {
        let instead = "name the room: `crate::room`";
        broken.push(("imports", format!("`super` leaves `{room}`"), instead));
    }
    broken
}

/// The line and length of each function that is too long.
fn long_functions(source: &Source) -> Vec<(usize, String)> {
    let text: String = source.lines.iter().map(|line| line.text.clone() + "\n").collect();
    let code = blank(&text);
    let mut long = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if !has_word(&code[..at + 3], "fn ") {
            continue;
        }
        let Some(open) = code[at..].find(['{', ';']).map(|found| at + found) else { continue };
        if code.as_bytes()[open] == b'{' {
            let lines = code[at..closing_brace(&code, open)].lines().count();
            if lines > FUNCTION_LINES_MAX {
                let line = code[..at].matches('\n').count() + 1;
                long.push((line, format!("a function of {lines} lines")));
            }
        }
    }
    long
}
