//! Children that say one word: pipe, spawn, read, wait.

use std::io::Read;
use std::process::{self, Stdio};
use std::thread;

use forkplan::Channel::ReadPipe;
use forkplan::{Backend, Channel, Command, Event, Prepared, Pump};
use forkplan_benches::floor::Floor;
use forkplan_benches::program::{Does, Program};

use crate::sample::{Bench, Contender, Title};
use crate::start::Knows;
use crate::{raw, start};

/// How many children of the pump are on their way at once.
const IN_FLIGHT: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];

pub fn run(bench: &mut Bench) {
    let program = Program::build(Does::Talks);
    let children = if bench.options.quick { 128 } else { 1000 };
    let words = format!("short: {children} children end to end (a smaller r is more per second)");
    let mut contenders = vec![
        std("std, 2 threads", &program, children, 2),
        std("std, 2 threads again (A/A)", &program, children, 2),
        std("std, one after the other", &program, children, 1),
        floor("floor, one after the other", &program, children),
        bare("forkplan, read and wait, no Pump", &program, children),
        subprocess("subprocess, one after the other", &program, children),
        tokio("tokio, one after the other", &program, children),
        async_process("async-process, one after the other", &program, children),
        pump(
            "forkplan, Pump (epoll), 8 in flight".into(),
            &program,
            children,
            8,
            Some(Backend::Epoll),
        ),
    ];
    for in_flight in IN_FLIGHT {
        let name = format!("forkplan, Pump, {in_flight} in flight");
        contenders.push(pump(name, &program, children, in_flight, None));
    }
    for in_flight in IN_FLIGHT {
        let name = format!("forkplan, Pump::start, {in_flight} in flight");
        contenders.push(start::pump(name, prepared(&program), children, in_flight, None));
    }
    let name = "forkplan, Pump::start (epoll), 8 in flight".into();
    let epoll = Some(Backend::Epoll);
    contenders.push(start::pump(name, prepared(&program), children, 8, epoll));
    for (name, knows) in [
        ("floor, clone without VFORK, 8 in flight", Knows::End),
        ("..., and a pidfd for each", Knows::Pidfd),
        ("..., and a pipe that tells of exec", Knows::Exec),
    ] {
        contenders.push(start::floor(name, &program, children, 8, knows));
    }
    let rounds = bench.options.rounds(21, 3);
    let title = Title { part: "short", axis: "children", x: children.into(), words };
    bench.compare(title, contenders, rounds);
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

/// By this backend, or by the one that it chooses.
fn pump<'a>(
    name: String,
    program: &Program,
    children: u32,
    in_flight: u32,
    backend: Option<Backend>,
) -> Contender<'a> {
    let mut prepared = prepared(program);
    let mut pump = backend.map_or_else(Pump::new, |by| Pump::with_backend(by).unwrap());
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

fn subprocess<'a>(name: &'a str, program: &Program, children: u32) -> Contender<'a> {
    let path = program.path().to_owned();
    Contender::new(name, move || {
        for _ in 0..children {
            let exec = subprocess::Exec::cmd(&path).stdout(subprocess::Redirection::Pipe);
            check(&exec.capture().unwrap().stdout);
        }
    })
}

fn tokio<'a>(name: &'a str, program: &Program, children: u32) -> Contender<'a> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let path = program.path().to_owned();
    Contender::new(name, move || {
        runtime.block_on(async {
            for _ in 0..children {
                let mut command = tokio::process::Command::new(&path);
                command.stdout(Stdio::piped()).stderr(Stdio::inherit());
                let child = command.spawn().unwrap();
                check(&child.wait_with_output().await.unwrap().stdout);
            }
        });
    })
}

fn async_process<'a>(name: &'a str, program: &Program, children: u32) -> Contender<'a> {
    let path = program.path().to_owned();
    Contender::new(name, move || {
        for _ in 0..children {
            let mut command = async_process::Command::new(&path);
            command.stdout(Stdio::piped()).stderr(Stdio::inherit());
            let child = command.spawn().unwrap();
            check(&futures_lite::future::block_on(child.output()).unwrap().stdout);
        }
    })
}

fn check(said: &[u8]) {
    assert!(!said.is_empty());
}
