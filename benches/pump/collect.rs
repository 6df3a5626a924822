//! All that a child writes, in one `Vec`.

use std::io::Read;

use fastrand::Rng;
use forkplan::{Event, Pump};

use crate::drain::{finish, flood, std_flood};
use crate::options::Options;
use crate::raw::{self, BLOCK};
use crate::sample::{Contender, compare};

pub fn run(options: &Options, rng: &mut Rng) {
    let bytes = options.mib(256);
    let title = format!("collect: {} MiB from one child into a Vec", bytes >> 20);
    let contenders = vec![
        bare("bare loop, 64 KiB, extend_from_slice", bytes),
        bare("bare loop again (A/A)", bytes),
        pump("forkplan, Pump, extend_from_slice", bytes),
        read_to_end("read_to_end of the blocking end", bytes),
        std_output("std, wait_with_output", bytes),
    ];
    compare(&title, contenders, options.rounds(15, 7), rng);
}

fn bare(name: &str, bytes: u64) -> Contender<'_> {
    let mut flood = flood(bytes);
    let mut buffer = vec![0; BLOCK];
    Contender::new(name, move || {
        let mut child = flood.spawn().unwrap();
        let mut end = raw::file(child.take(1));
        let mut all = Vec::new();
        loop {
            match end.read(&mut buffer).unwrap() {
                0 => break,
                len => all.extend_from_slice(&buffer[..len]),
            }
        }
        assert_eq!(all.len() as u64, bytes);
        finish(child);
    })
}

fn read_to_end(name: &str, bytes: u64) -> Contender<'_> {
    let mut flood = flood(bytes);
    Contender::new(name, move || {
        let mut child = flood.spawn().unwrap();
        let mut all = Vec::new();
        raw::file(child.take(1)).read_to_end(&mut all).unwrap();
        assert_eq!(all.len() as u64, bytes);
        finish(child);
    })
}

fn pump(name: &str, bytes: u64) -> Contender<'_> {
    let mut flood = flood(bytes);
    let mut pump = Pump::new();
    Contender::new(name, move || {
        pump.add(flood.spawn().unwrap());
        let mut all = Vec::new();
        while !pump.is_empty() {
            pump.poll(None).unwrap();
            while let Some(event) = pump.next_event() {
                if let Event::Data { bytes, .. } = event {
                    all.extend_from_slice(bytes);
                }
            }
        }
        assert_eq!(all.len() as u64, bytes);
    })
}

fn std_output(name: &str, bytes: u64) -> Contender<'_> {
    let mut flood = std_flood(bytes);
    Contender::new(name, move || {
        let output = flood.spawn().unwrap().wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout.len() as u64, bytes);
    })
}
