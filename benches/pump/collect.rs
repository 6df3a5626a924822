//! All that a child writes, in one `Vec`.

use std::io::Read;

use forkplan::{CaptureBuffer, Event, Pump};

use crate::actor;
use crate::drain::{finish, flood, std_flood};
use crate::raw::{self, BLOCK};
use crate::sample::{Bench, Contender, Title};

pub fn run(bench: &mut Bench) {
    let bytes = bench.options.mib(256);
    let words = format!("collect: {} MiB from one child into a Vec", bytes >> 20);
    let contenders = vec![
        bare("bare loop, 64 KiB, extend_from_slice", bytes),
        bare("bare loop again (A/A)", bytes),
        pump("forkplan, Pump, extend_from_slice", bytes),
        captured("forkplan, Pump, CaptureBuffer", bytes, false),
        captured("the same, huge pages", bytes, true),
        read_to_end("read_to_end of the blocking end", bytes),
        std_output("std, wait_with_output", bytes),
        subprocess("subprocess, capture", bytes),
        duct("duct, stdout_capture", bytes),
        tokio("tokio, output", bytes),
        async_process("async-process, output", bytes),
    ];
    let rounds = bench.options.rounds(15, 3);
    bench.compare(
        Title { part: "collect", axis: "MiB", x: bytes >> 20, words },
        contenders,
        rounds,
    );
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

fn captured(name: &str, bytes: u64, huge_pages: bool) -> Contender<'_> {
    let mut flood = flood(bytes);
    let mut pump = Pump::new();
    Contender::new(name, move || {
        pump.add(flood.spawn().unwrap());
        let mut all = CaptureBuffer::new(usize::MAX).huge_pages(huge_pages);
        while !pump.is_empty() {
            pump.poll(None).unwrap();
            while let Some(event) = pump.next_event() {
                if let Event::Data { bytes, .. } = event {
                    all.push(bytes);
                }
            }
        }
        assert_eq!(all.bytes().len() as u64, bytes);
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

fn own_path() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

fn subprocess(name: &str, bytes: u64) -> Contender<'_> {
    Contender::new(name, move || {
        let exec = subprocess::Exec::cmd(own_path()).args(actor::flood(bytes));
        let output = exec.stdout(subprocess::Redirection::Pipe).capture().unwrap();
        assert_eq!(output.stdout.len() as u64, bytes);
    })
}

fn duct(name: &str, bytes: u64) -> Contender<'_> {
    Contender::new(name, move || {
        let output = duct::cmd(own_path(), actor::flood(bytes)).stdout_capture().run().unwrap();
        assert_eq!(output.stdout.len() as u64, bytes);
    })
}

fn tokio(name: &str, bytes: u64) -> Contender<'_> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    Contender::new(name, move || {
        let output = runtime.block_on(async {
            let mut command = tokio::process::Command::new(own_path());
            command.args(actor::flood(bytes)).output().await.unwrap()
        });
        assert_eq!(output.stdout.len() as u64, bytes);
    })
}

fn async_process(name: &str, bytes: u64) -> Contender<'_> {
    Contender::new(name, move || {
        let mut command = async_process::Command::new(own_path());
        let output = command.args(actor::flood(bytes)).output();
        let output = futures_lite::future::block_on(output).unwrap();
        assert_eq!(output.stdout.len() as u64, bytes);
    })
}
