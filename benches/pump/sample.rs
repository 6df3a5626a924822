//! Contenders, rounds, and the table that comes of them.

use std::time::{Duration, Instant};

use fastrand::Rng;
use forkplan_benches::cpu;
use forkplan_benches::stats::{Ratio, Series};

/// One way to do the work of a part.
pub struct Contender<'a> {
    name: &'a str,
    run: Box<dyn FnMut() + 'a>,
}

impl<'a> Contender<'a> {
    /// `run` does all of the work once, the child's end included.
    pub fn new(name: &'a str, run: impl FnMut() + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

#[derive(Clone, Copy)]
struct Sample {
    wall: Duration,
    cpu: Duration,
}

/// Measures all of them and prints ratios to the first. The first round does
/// not count.
pub fn compare(title: &str, mut contenders: Vec<Contender<'_>>, rounds: usize, rng: &mut Rng) {
    let mut samples = vec![Vec::with_capacity(rounds); contenders.len()];
    let mut order: Vec<usize> = (0..contenders.len()).collect();
    for round in 0..=rounds {
        rng.shuffle(&mut order);
        for &i in &order {
            let sample = measure(&mut contenders[i].run);
            if round > 0 {
                samples[i].push(sample);
            }
        }
    }
    println!("\n{title}, {rounds} rounds\n");
    println!("{:38} {:>20} {:>20}  {:>18}", "", "time r [95 %]", "CPU r [95 %]", "ms, 25-75 %");
    let series = |of: fn(&Sample) -> Duration| -> Vec<Series> {
        samples.iter().map(|all| Series::new(all.iter().map(of))).collect()
    };
    let (wall, cpu) = (series(|sample| sample.wall), series(|sample| sample.cpu));
    for (i, contender) in contenders.iter().enumerate() {
        let ms = |part| wall[i].quantile(part) as f64 / 1e6;
        println!(
            "{:38} {:>20} {:>20}  {:>18}",
            contender.name,
            ratio(wall[i].ratio_to(&wall[0], rng)),
            ratio(cpu[i].ratio_to(&cpu[0], rng)),
            format!("{:.0} ({:.0}-{:.0})", ms(0.5), ms(0.25), ms(0.75)),
        );
    }
}

/// CPU is the parent's and the children's together: what the work costs,
/// whoever has to wait for whom.
fn measure(run: &mut dyn FnMut()) -> Sample {
    let (start, used) = (Instant::now(), cpu::of_process_and_children());
    run();
    Sample { wall: start.elapsed(), cpu: cpu::of_process_and_children() - used }
}

pub fn ratio(ratio: Ratio) -> String {
    format!("{:.3} [{:.2}-{:.2}]", ratio.ratio, ratio.low, ratio.high)
}
