//! Results on disk: CSV, a row a figure, and what they were measured on.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use fastrand::Rng;

use crate::stats::{Ratio, Series};

const HEADER: &str = "part,axis,x,contender,figure,ratio,low,high,median,p25,p75,unit,rounds";

/// Where results go: the directory that was asked for; by default one named for
/// today, beside this package; and nowhere for a quick run, whose figures are worth
/// nothing.
pub fn directory(asked: Option<PathBuf>, quick: bool) -> Option<PathBuf> {
    let today = || Path::new(env!("CARGO_MANIFEST_DIR")).join("record").join(today());
    asked.or_else(|| (!quick).then(today))
}

/// The rows of one benchmark.
pub struct Record(Option<File>);

/// Which figure it is.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub part: &'a str,
    /// What changes from row to row, and its value.
    pub axis: &'a str,
    pub x: u64,
    pub contender: &'a str,
    pub figure: &'a str,
    pub unit: &'a str,
}

impl Record {
    /// `NAME.csv` in that directory, begun anew or gone on with.
    pub fn open(directory: Option<&Path>, name: &str, goes_on: bool) -> io::Result<Self> {
        let Some(directory) = directory else { return Ok(Self(None)) };
        fs::create_dir_all(directory)?;
        fs::write(directory.join("machine.txt"), machine())?;
        let path = directory.join(format!("{name}.csv"));
        let mut file = File::options().append(true).create(true).open(&path)?;
        if !goes_on || file.metadata()?.len() == 0 {
            file.set_len(0)?;
            writeln!(file, "{HEADER}")?;
        }
        Ok(Self(Some(file)))
    }

    /// One series beside the one that it is compared with.
    pub fn series(
        &mut self,
        at: Place<'_>,
        series: &Series,
        base: &Series,
        rng: &mut Rng,
    ) -> Ratio {
        let ratio = series.ratio_to(base, rng);
        let [median, p25, p75] = [0.5, 0.25, 0.75].map(|part| series.quantile(part));
        self.write(at, &[ratio.ratio, ratio.low, ratio.high], [median, p25, p75], series.len());
        ratio
    }

    /// A number that is what it is: a count.
    pub fn count(&mut self, at: Place<'_>, count: u64) {
        self.write(at, &[], [count; 3], 1);
    }

    fn write(&mut self, at: Place<'_>, ratios: &[f64], values: [u64; 3], rounds: usize) {
        let Self(Some(file)) = self else { return };
        let Place { part, axis, x, contender, figure, unit } = at;
        let ratio = |i: usize| ratios.get(i).map_or(String::new(), |r| format!("{r:.4}"));
        let (part, contender) = (quoted(part), quoted(contender));
        let [median, p25, p75] = values;
        let row = format!(
            "{part},{axis},{x},{contender},{figure},{},{},{},{median},{p25},{p75},{unit},{rounds}\n",
            ratio(0),
            ratio(1),
            ratio(2),
        );
        file.write_all(row.as_bytes()).expect("the results can be written");
    }
}

fn quoted(text: &str) -> String {
    if text.contains(',') { format!("\"{text}\"") } else { text.into() }
}

/// What a reader has to know to compare.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let cpu = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let memory = read("/proc/meminfo");
    // SAFETY: a string of libc's that stays.
    let glibc = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    format!(
        "date: {}\nkernel: {}\nglibc: {}\nCPU{}, {} of them\nmemory: {}\nload when it began: {}",
        today(),
        read("/proc/sys/kernel/osrelease").trim(),
        glibc.to_string_lossy(),
        cpu.trim_start(),
        // All of the machine's, not those that this process is pinned to.
        info.lines().filter(|line| line.starts_with("processor")).count(),
        memory.lines().next().unwrap_or_default().trim_start_matches("MemTotal:").trim(),
        read("/proc/loadavg"),
    )
}

/// Year, month and day in UTC.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    // Days since the 1st of March of year 0, in which a leap day comes last.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + later)
}
