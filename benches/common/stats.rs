//! Medians, and how far they can be trusted.

use std::time::Duration;

use fastrand::Rng;

/// Resamplings for one interval. More change its second digit only.
const RESAMPLES: usize = 500;

/// One figure of one contender over all rounds, in nanoseconds.
pub struct Series(Vec<u64>);

/// A ratio of two medians, and the interval in which 95 of 100 repetitions of
/// the run would have it, if what disturbs it stayed the same.
#[derive(Clone, Copy)]
pub struct Ratio {
    pub ratio: f64,
    pub low: f64,
    pub high: f64,
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ratio, low, high } = self;
        f.pad(&format!("{ratio:.3} [{low:.2}-{high:.2}]"))
    }
}

impl Series {
    pub fn new(times: impl Iterator<Item = Duration>) -> Self {
        Self(times.map(|time| time.as_nanos() as u64).collect())
    }

    /// Figures that are no times, or times already counted in nanoseconds.
    pub fn of(values: Vec<u64>) -> Self {
        Self(values)
    }

    /// How many.
    #[expect(clippy::len_without_is_empty, reason = "there is always a round")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The `part`th of the sorted times, 0.5 for the median.
    pub fn quantile(&self, part: f64) -> u64 {
        quantile(&mut self.0.clone(), part)
    }

    /// This median over the other's. Rounds are drawn as a whole, so that what
    /// disturbed a round disturbs both.
    pub fn ratio_to(&self, base: &Self, rng: &mut Rng) -> Ratio {
        let rounds = self.0.len();
        let mut ratios: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let drawn: Vec<usize> = (0..rounds).map(|_| rng.usize(..rounds)).collect();
                median_of(&self.0, &drawn) / median_of(&base.0, &drawn)
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        Ratio {
            ratio: self.quantile(0.5) as f64 / base.quantile(0.5) as f64,
            low: ratios[RESAMPLES * 25 / 1000],
            high: ratios[RESAMPLES * 975 / 1000],
        }
    }
}

fn median_of(times: &[u64], drawn: &[usize]) -> f64 {
    quantile(&mut drawn.iter().map(|&i| times[i]).collect::<Vec<_>>(), 0.5) as f64
}

fn quantile(times: &mut [u64], part: f64) -> u64 {
    let at = ((times.len() - 1) as f64 * part).round() as usize;
    *times.select_nth_unstable(at).1
}
