//! Talking to a program on a terminal: what it says is waited for, what it is
//! told is typed.

// Each test file uses a part of this.
#![allow(dead_code)]

use forkplan::{ChildKey, Command, Terminal};

use crate::support::Driver;

/// A child with a terminal that is the channel `terminal`.
pub(crate) struct Talk {
    pub(crate) driver: Driver,
    pub(crate) key: ChildKey,
    /// So much of what it said was waited for.
    heard: usize,
}

impl Talk {
    pub(crate) fn new(command: &mut Command<'_>) -> Self {
        let mut driver = Driver::new();
        let key = driver.add(command);
        Self { driver, key, heard: 0 }
    }

    /// Types; it is all taken.
    pub(crate) fn say(&mut self, text: &str) {
        let taken = self.driver.pump.write(self.key, "terminal", text.as_bytes());
        assert_eq!(taken, Ok(text.len()));
    }

    /// Goes on until it has said this, after what was waited for before; what it
    /// said up to there.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let (key, heard) = (self.key, self.heard);
        let rest = |driver: &Driver| {
            String::from_utf8_lossy(&driver.data(key, "terminal")[heard..]).into_owned()
        };
        self.driver.until(|driver| rest(driver).contains(text));
        let said = rest(&self.driver);
        let upto = said.find(text).unwrap() + text.len();
        self.heard += upto;
        said[..upto].to_owned()
    }

    pub(crate) fn terminal(&self) -> Terminal<'_> {
        self.driver.pump.terminal(self.key, "terminal").expect("the terminal is open")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.driver.pump.child(self.key).and_then(forkplan::Child::id).expect("it runs")
    }

    /// Goes on until the foreground is the child's own group, or another's.
    pub(crate) fn until_foreground(&mut self, is_its_own: bool) {
        let own = Some(self.pid());
        while (self.terminal().foreground_group().unwrap() == own) != is_its_own {
            // Nothing tells of it: looked at again and again.
            self.driver.pump.poll(Some(core::time::Duration::from_millis(1))).unwrap();
            self.driver.drain();
        }
    }
}
