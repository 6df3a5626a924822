//! Contenders, rounds, and the table that comes of them.

use std::time::{Duration, Instant};

use fastrand::Rng;
use forkplan_benches::cpu;
use forkplan_benches::record::{Place, Record};
use forkplan_benches::stats::Series;

use crate::options::Options;

/// What all parts need.
pub struct Bench {
    pub options: Options,
    pub rng: Rng,
    pub record: Record,
}

/// One way to do the work of a part.
pub struct Contender<'a> {
    name: String,
    run: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    /// `run` does all of the work once, the child's end included.
    pub fn new(name: impl Into<String>, run: impl FnMut() + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

#[derive(Clone, Copy)]
struct Sample {
    wall: Duration,
    cpu: Duration,
}

/// What a table is of, and where it stands in the file.
pub struct Title<'a> {
    pub part: &'a str,
    pub axis: &'a str,
    pub x: u64,
    pub words: String,
}

impl Bench {
    /// Measures all of them and prints ratios to the first. The first round does
    /// not count.
    pub fn compare(&mut self, title: Title<'_>, mut contenders: Vec<Contender<'_>>, rounds: usize) {
        let mut samples = vec![Vec::with_capacity(rounds); contenders.len()];
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        for round in 0..=rounds {
            self.rng.shuffle(&mut order);
            for &i in &order {
                let sample = measure(&mut contenders[i].run);
                if round > 0 {
                    samples[i].push(sample);
                }
            }
        }
        println!("\n{}, {rounds} rounds\n", title.words);
        println!("{:42} {:>20} {:>20}  {:>18}", "", "time r [95 %]", "CPU r [95 %]", "ms, 25-75 %");
        let series = |of: fn(&Sample) -> Duration| -> Vec<Series> {
            samples.iter().map(|all| Series::new(all.iter().map(of))).collect()
        };
        let (wall, cpu) = (series(|sample| sample.wall), series(|sample| sample.cpu));
        for (i, contender) in contenders.iter().enumerate() {
            let ms = |part| wall[i].quantile(part) as f64 / 1e6;
            let Title { part, axis, x, .. } = title;
            let at =
                |figure| Place { part, axis, x, contender: &contender.name, figure, unit: "ns" };
            println!(
                "{:42} {:>20} {:>20}  {:>18}",
                contender.name,
                self.record.series(at("time"), &wall[i], &wall[0], &mut self.rng),
                self.record.series(at("CPU"), &cpu[i], &cpu[0], &mut self.rng),
                format!("{:.0} ({:.0}-{:.0})", ms(0.5), ms(0.25), ms(0.75)),
            );
        }
    }
}

/// CPU is the parent's and the children's together: what the work costs,
/// whoever has to wait for whom.
fn measure(run: &mut dyn FnMut()) -> Sample {
    let (start, used) = (Instant::now(), cpu::of_process_and_children());
    run();
    Sample { wall: start.elapsed(), cpu: cpu::of_process_and_children() - used }
}
