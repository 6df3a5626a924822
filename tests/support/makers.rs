//! The ways from a prepared command to a child, for tests that go by all of them.

use forkplan::{Child, Command, Event, Prepared, Pump, SpawnError};

/// Which call of the crate makes the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// `Prepared::spawn`, which stops the caller.
    Spawn,
    /// `Prepared::start`.
    Start,
    /// `Pump::start`; the child is taken out when it has come to its program.
    Pump,
}

pub(crate) const MAKERS: [By; 3] = [By::Spawn, By::Start, By::Pump];

/// Those beside whose children the caller runs on.
pub(crate) const STARTS: [By; 2] = [By::Start, By::Pump];

/// What becomes of one that was to be made.
pub(crate) type Made = Result<Child, SpawnError>;

impl By {
    /// The children of these, all on their way at once but where each is waited for.
    pub(crate) fn make_all(self, prepared: &mut Vec<Prepared<'static>>) -> Vec<Made> {
        match self {
            Self::Spawn => prepared.iter_mut().map(Prepared::spawn).collect(),
            Self::Start => {
                let starting: Vec<_> = prepared.drain(..).map(Prepared::start).collect();
                let finished = starting.into_iter().map(|starting| {
                    let (back, made) = starting.finish();
                    prepared.push(back);
                    made
                });
                finished.collect()
            }
            Self::Pump => by_a_pump(prepared),
        }
    }

    /// The child of this command.
    pub(crate) fn make(self, command: &Command<'static>) -> Made {
        Maker::new(self, command, 1).make_one()
    }
}

fn by_a_pump(all: &mut Vec<Prepared<'static>>) -> Vec<Made> {
    let mut pump = Pump::new();
    let keys: Vec<_> = all.drain(..).map(|prepared| pump.start(prepared)).collect();
    let mut made: Vec<Option<Made>> = keys.iter().map(|_| None).collect();
    while !pump.is_empty() {
        pump.poll(None).unwrap();
        while let Some(event) = pump.next_event() {
            let key = event.child();
            let what = match event {
                Event::Made { .. } => None,
                Event::NotStarted { .. } => Some(Err(pump.take_spawn_error(key).unwrap())),
                other => panic!("{other:?} of one that is not there yet"),
            };
            all.push(pump.take_prepared(key).unwrap());
            let what = what.unwrap_or_else(|| Ok(pump.remove(key).unwrap().child));
            made[keys.iter().position(|&of| of == key).unwrap()] = Some(what);
        }
    }
    made.into_iter().map(|made| made.expect("an outcome of each")).collect()
}

/// A command that is prepared once and made into children again and again.
pub(crate) struct Maker {
    by: By,
    prepared: Vec<Prepared<'static>>,
}

impl Maker {
    /// For so many at once.
    pub(crate) fn new(by: By, command: &Command<'static>, at_once: usize) -> Self {
        Self { by, prepared: (0..at_once).map(|_| command.prepare().unwrap()).collect() }
    }

    pub(crate) fn make(&mut self) -> Vec<Made> {
        self.by.make_all(&mut self.prepared)
    }

    /// Of a maker of one at once.
    pub(crate) fn make_one(&mut self) -> Made {
        let mut made = self.make();
        assert_eq!(made.len(), 1);
        made.remove(0)
    }
}
