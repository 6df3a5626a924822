//! Lives made of facts, in every order, in real processes: what is told of each is
//! compared with a slow model. A fact has happened before the pump looks, and a
//! grandchild holds the far ends of the channels, so that the order is the test's.
//! Nobody else has a copy of one: each test is a process of its own, for a child that
//! another has just forked has all of its fds until it is another program.
#![cfg(target_os = "linux")]

#[path = "support/amount.rs"]
mod amount;
#[path = "support/life_model.rs"]
mod life_model;
#[path = "support/seccomp.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod seccomp;
#[path = "support/pump.rs"]
mod support;

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use amount::amount;
use forkplan::{Channel, ChannelError, ChildKey, Command, End, Ladder, OnDrop, Signal};
use life_model::{FACTS, Fact, Model, RULES, Told};
use seccomp::Rule as Filter;
use support::{Agent, Driver, Random, alone};

/// What issue and documentation call the orders: of these, every one.
const CORE: [Fact; 5] = [Fact::Exit, Fact::EndOfFile, Fact::CloseByUs, Fact::Error, Fact::Deadline];

/// Starts what holds the channels, and ends with 7 when it is told to.
const SCRIPT: &str = "trap '' PIPE
    (while read -r line <&9; do eval \"$line\"; done) 8<&- &
    exec 9<&- 1>&- 3>&- 4<&- 5>&- 6<&- 7<&-
    echo ready >&8; read -r line <&8; exit 7";

/// A child, who holds its channels, and what is attached beside it. All of one
/// thread, which a fact puts a filter on.
struct Scene {
    driver: Driver,
    /// Seconds on the pump's clock.
    clock: Arc<AtomicU64>,
    start: Instant,
    key: ChildKey,
    pid: u32,
    main: BufReader<UnixStream>,
    holder: Agent,
    attached: ChildKey,
    other_side: Option<UnixStream>,
    /// Once it was taken out.
    removed: Option<forkplan::Child>,
    /// Bytes that were queued for who reads no more.
    queued: usize,
}

impl Scene {
    fn new() -> Self {
        let mut driver = Driver::new();
        let (clock, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let time = clock.clone();
        let now = move || start + Duration::from_secs(time.load(Ordering::Relaxed));
        driver.pump.set_clock(now);
        let (main, its) = UnixStream::pair().unwrap();
        let (holder, holders) = UnixStream::pair().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).fds([0, 2], Channel::Null).fd(8, its).fd(9, holders);
        command.fd(1, Channel::ReadPipe).fd(3, Channel::SeqpacketPair);
        command.fd(4, Channel::WritePipe).fd(5, Channel::ReadPipe);
        command.fd(6, Channel::WritePipe).fd(7, Channel::SocketPair);
        let child = command.on_drop(OnDrop::Kill).spawn().unwrap();
        drop(command);
        let pid = child.id().unwrap();
        let key = driver.pump.add(child);
        let (ours, other_side) = UnixStream::pair().unwrap();
        let attached = driver.attach([End::new(1, ours).unwrap()]);
        let mut main = BufReader::new(main);
        let mut ready = String::new();
        main.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Self {
            driver,
            clock,
            start,
            key,
            pid,
            main,
            holder: Agent::on(key, holder),
            attached,
            other_side: Some(other_side),
            removed: None,
            queued: 0,
        }
    }

    /// Finds all that has happened, and lets time pass.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let before = self.driver.log.len();
            self.clock.fetch_add(10, Ordering::Relaxed);
            self.driver.pump.poll(Some(Duration::ZERO)).unwrap();
            self.driver.drain();
            quiet = if self.driver.log.len() == before { quiet + 1 } else { 0 };
        }
    }

    /// Makes a fact happen. What is not there any more says so.
    fn make(&mut self, fact: Fact, model: &Model) {
        let (pump, key) = (&mut self.driver.pump, self.key);
        let asked = match fact {
            Fact::CloseByUs => pump.close(key, 5),
            Fact::Deadline => {
                let now = self.start + Duration::from_secs(self.clock.load(Ordering::Relaxed));
                pump.set_deadline(key, Some(now), Ladder::new())
            }
            Fact::HalfClose => match pump.close_write(key, 7) {
                Err(ChannelError::Closed) if !model.is_open(7) => Ok(()),
                result => result,
            },
            Fact::DrainLimit => pump.set_drain_limit(key, Some(Duration::from_secs(1))),
            Fact::Watch => pump.watch_stops(key, true),
            Fact::CloseAll => pump.close_all(key),
            Fact::Remove => match pump.remove(key) {
                Ok(removed) => {
                    self.removed = Some(removed.child);
                    Ok(())
                }
                Err(error) => {
                    assert_eq!(error.to_string(), ChannelError::NoChild.to_string());
                    Err(ChannelError::NoChild)
                }
            },
            fact => return self.make_outside(fact, model),
        };
        let expected = if model.is_over { Err(ChannelError::NoChild) } else { Ok(()) };
        assert_eq!(asked, expected, "{fact:?}");
    }

    /// A fact that the pump has to find.
    fn make_outside(&mut self, fact: Fact, model: &Model) {
        match fact {
            Fact::Exit => {
                self.main.get_mut().write_all(b"\n").unwrap();
                support::wait_for_end(self.pid);
            }
            Fact::EndOfFile => drop(self.holder.ask("printf last >&1; exec 1>&-")),
            Fact::Error => {
                // From here on in this thread, and of this one channel.
                seccomp::install(&[Filter::errno(libc::SYS_recvmsg, libc::EIO)]);
                self.holder.ask("echo unread >&3");
            }
            Fact::BrokenPipe => {
                let bytes = [b'x'; 1_000_000];
                if self.driver.pump.write(self.key, 4, &bytes).is_ok() {
                    self.queued = self.driver.pump.queued(self.key, 4).unwrap();
                    assert!(self.queued > 0);
                }
                self.driver.pump.follow();
                self.holder.ask("exec 4<&-");
            }
            Fact::HangUp => drop(self.holder.ask("exec 6<&-")),
            Fact::Gone => drop(self.holder.ask("exec 7<&-")),
            Fact::StopAndGo if !model.is_over && !model.has_exited() => self.stop_and_go(),
            Fact::AttachedHalf => {
                if let Some(side) = &self.other_side {
                    side.shutdown(Shutdown::Write).unwrap();
                }
            }
            Fact::AttachedGone => drop(self.other_side.take()),
            _ => {}
        }
    }

    /// Who is watched is looked at in between, and nobody else is told of.
    fn stop_and_go(&mut self) {
        for (signal, state) in [(Signal::STOP, libc::WSTOPPED), (Signal::CONT, libc::WCONTINUED)] {
            self.driver.pump.signal(self.key, signal).unwrap();
            wait_for(self.pid, state | libc::WNOWAIT);
            self.settle();
        }
        // Nothing of it is left for who asks to be told later.
        wait_for(self.pid, libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG);
    }

    fn told(&self, key: ChildKey) -> Vec<Told> {
        // Without Made.
        self.driver.of(key).skip(1).map(Told::from).collect()
    }

    /// All goes that is left, and the promises of `Event` hold of the whole.
    fn finish(mut self) {
        let was_removed = self.removed.take().is_some();
        drop((self.main, self.holder, self.other_side));
        let key = self.key;
        // Of who was taken out no end is told.
        self.driver.log.retain(|(told, _)| !was_removed || *told != key);
        self.driver.finish();
    }
}

fn wait_for(pid: u32, options: i32) {
    let mut info = core::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: writes the info.
    let waited = unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), options) };
    assert_eq!(waited, 0, "{}", std::io::Error::last_os_error());
}

/// What was told of a life, and what its model needs to know of it.
struct Life {
    facts: Vec<Fact>,
    told: [Vec<Told>; 2],
    queued: usize,
}

impl Life {
    /// Lives it, with a look after each fact.
    fn live(facts: &[Fact]) -> Self {
        Self::live_by(facts, Scene::settle)
    }

    /// Lives it, and looks when all has happened.
    fn live_unseen(facts: &[Fact]) -> Self {
        Self::live_by(facts, |_| {})
    }

    fn live_by(facts: &[Fact], after_each: fn(&mut Scene)) -> Self {
        in_thread(|| {
            let (mut scene, mut model) = (Scene::new(), Model::new(None));
            scene.settle();
            for &fact in facts {
                scene.make(fact, &model);
                model.take(fact, scene.queued);
                after_each(&mut scene);
            }
            scene.settle();
            let told = [scene.key, scene.attached].map(|key| scene.told(key));
            let queued = scene.queued;
            scene.finish();
            Self { facts: facts.to_vec(), told, queued }
        })
    }

    /// What a model says of it.
    fn expected(&self, broken: Option<life_model::Rule>) -> [Vec<Told>; 2] {
        let mut model = Model::new(broken);
        self.facts.iter().for_each(|&fact| model.take(fact, self.queued));
        [model.told, model.told_of_attached]
    }

    fn check(&self) {
        assert_eq!(self.told, self.expected(None), "{:?}", self.facts);
    }
}

/// The filter of one life is none of the next.
fn in_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(body).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn orders(of: &[Fact]) -> Vec<Vec<Fact>> {
    if of.is_empty() {
        return vec![vec![]];
    }
    let of_first = |first: &Fact| {
        let rest: Vec<Fact> = of.iter().copied().filter(|fact| fact != first).collect();
        let begin = |order: Vec<Fact>| [vec![*first], order].concat();
        orders(&rest).into_iter().map(begin).collect::<Vec<_>>()
    };
    of.iter().flat_map(of_first).collect()
}

#[test]
fn exit_end_of_file_close_by_us_error_and_deadline_in_every_order() {
    alone("exit_end_of_file_close_by_us_error_and_deadline_in_every_order", || {
        let all = orders(&CORE);
        assert_eq!(all.len(), 120);
        all.iter().for_each(|order| Life::live(order).check());
    });
}

/// What the pump finds in one look has no order but that of each channel and of the
/// end, which `Driver::check` holds.
#[test]
fn the_same_orders_seen_in_one_look_tell_the_same() {
    alone("the_same_orders_seen_in_one_look_tell_the_same", || {
        let sorted = |told: &[Told]| {
            let mut lines: Vec<String> = told.iter().map(|told| format!("{told:?}")).collect();
            lines.sort();
            lines
        };
        for order in orders(&CORE) {
            let mut life = Life::live_unseen(&order);
            // Nobody has seen the exit when the deadline comes.
            life.facts.sort_by_key(|fact| *fact != Fact::Deadline);
            let expected = life.expected(None);
            assert_eq!(sorted(&life.told[0]), sorted(&expected[0]), "{order:?}");
        }
    });
}

#[test]
fn every_two_facts_of_all_kinds() {
    alone("every_two_facts_of_all_kinds", || {
        for first in FACTS {
            for second in FACTS.into_iter().filter(|&second| second != first) {
                Life::live(&[first, second]).check();
            }
        }
    });
}

/// `FORKPLAN_TEST_LIVES` says how many.
#[test]
fn random_lives_of_facts_of_all_kinds() {
    alone("random_lives_of_facts_of_all_kinds", || {
        let mut random = Random::new();
        for _ in 0..amount("FORKPLAN_TEST_LIVES", 60) {
            let mut left = FACTS.to_vec();
            let len = 3 + random.below(FACTS.len() - 2);
            let facts: Vec<Fact> =
                (0..len).map(|_| left.swap_remove(random.below(left.len()))).collect();
            Life::live(&facts).check();
        }
    });
}

#[test]
fn control_a_model_with_another_rule_is_noticed() {
    alone("control_a_model_with_another_rule_is_noticed", || {
        let lives = [
            Life::live(&[Fact::EndOfFile, Fact::CloseAll, Fact::Exit]),
            Life::live(&[Fact::Exit, Fact::Deadline, Fact::Error, Fact::CloseAll]),
        ];
        lives.iter().for_each(Life::check);
        for rule in RULES {
            let noticed = lives.iter().any(|life| life.told != life.expected(Some(rule)));
            assert!(noticed, "{rule:?}");
        }
    });
}
