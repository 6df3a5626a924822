//! Children that say one word: pipe, spawn, read, wait.

use std::io::Read;
use std::process::{self, Stdio};
use std::thread;

use fastrand::Rng;
use forkplan::Channel::ReadPipe;
use forkplan::{Channel, Command, Event, Prepared, Pump};
use forkplan_benches::floor::Floor;
use forkplan_benches::program::{Does, Program};

use crate::options::Options;
use crate::raw;
use crate::sample::{Contender, compare};

pub fn run(options: &Options, rng: &mut Rng) {
    let program = Program::build(Does::Talks);
    let children = if options.quick { 200 } else { 1000 };
    let title = format!("short: {children} children end to end (a smaller r is more per second)");
    let contenders = vec![
        std("std, 2 threads", &program, children, 2),
        std("std, 2 threads again (A/A)", &program, children, 2),
        std("std, one after the other", &program, children, 1),
        floor("floor, one after the other", &program, children),
        bare("forkplan, read and wait, no Pump", &program, children),
        pump("forkplan, Pump, 1 in flight", &program, children, 1),
        pump("forkplan, Pump, 8 in flight", &program, children, 8),
    ];
    compare(&title, contenders, options.rounds(21, 7), rng);
}

fn prepared(program: &Program) -> Prepared<'static> {
    Command::new(program.path())
        .fd(0, Channel::stdin())
        .fd(1, ReadPipe)
        .fd(2, Channel::stderr())
        .prepare()
        .unwrap()
}

/// A `Command` for each thread, used again.
fn std<'a>(name: &'a str, program: &Program, children: u32, threads: u32) -> Contender<'a> {
    let command = || {
        let mut command = process::Command::new(program.path());
        command.stdout(Stdio::piped());
        command
    };
    let mut commands: Vec<_> = (0..threads).map(|_| command()).collect();
    let work = move |command: &mut process::Command| {
        let mut said = Vec::new();
        for _ in 0..children / threads {
            said.clear();
            let mut child = command.spawn().unwrap();
            child.stdout.take().unwrap().read_to_end(&mut said).unwrap();
            assert!(child.wait().unwrap().success());
            check(&said);
        }
    };
    Contender::new(name, move || match &mut commands[..] {
        [command] => work(command),
        many => thread::scope(|scope| {
            many.iter_mut().for_each(|command| drop(scope.spawn(|| work(command))));
        }),
    })
}

/// The least, in one thread.
fn floor<'a>(name: &'a str, program: &Program, children: u32) -> Contender<'a> {
    let mut floor = Floor::new(program.c_path(), &[1], &[]);
    let mut said = [0; 64];
    Contender::new(name, move || {
        for _ in 0..children {
            let running = floor.spawn().unwrap();
            let len = running.read(0, &mut said);
            check(&said[..len]);
            assert_eq!(running.read(0, &mut said), 0);
            running.finish();
        }
    })
}

fn bare<'a>(name: &'a str, program: &Program, children: u32) -> Contender<'a> {
    let mut prepared = prepared(program);
    Contender::new(name, move || {
        let mut said = Vec::new();
        for _ in 0..children {
            said.clear();
            let mut child = prepared.spawn().unwrap();
            raw::file(child.take(1)).read_to_end(&mut said).unwrap();
            assert!(child.wait().unwrap().success());
            check(&said);
        }
    })
}

fn pump<'a>(name: &'a str, program: &Program, children: u32, in_flight: u32) -> Contender<'a> {
    let mut prepared = prepared(program);
    let mut pump = Pump::new();
    Contender::new(name, move || {
        let (mut started, mut said) = (0, 0);
        while started < in_flight {
            started += 1;
            pump.add(prepared.spawn().unwrap());
        }
        while !pump.is_empty() {
            pump.poll(None).unwrap();
            while let Some(event) = pump.next_event() {
                match event {
                    Event::Data { bytes, .. } => said += bytes.len(),
                    Event::Ended { exit, .. } => {
                        assert!(exit.success(), "{exit}");
                        if started < children {
                            started += 1;
                            pump.add(prepared.spawn().unwrap());
                        }
                    }
                    _ => {}
                }
            }
        }
        assert!(said >= children as usize);
    })
}

fn check(said: &[u8]) {
    assert!(!said.is_empty());
}
