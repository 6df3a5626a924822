//! The rows of a CSV file, as `record` writes them.

use std::fs;
use std::path::Path;

#[derive(Clone, Debug)]
pub struct Row {
    pub part: String,
    pub axis: String,
    pub x: f64,
    pub contender: String,
    pub figure: String,
    pub median: f64,
}

/// Of rows for the same figure the last counts: a part that was run again.
pub fn read(path: &Path) -> Result<Vec<Row>, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut rows: Vec<Row> = Vec::new();
    for (line, number) in text.lines().zip(1..).skip(1) {
        let row = row(&fields(line));
        let row = row.ok_or_else(|| format!("{}, line {number}: {line}", path.display()))?;
        let same = |old: &Row| {
            let words = |r: &Row| [&r.part, &r.axis, &r.contender, &r.figure].map(String::clone);
            old.x == row.x && words(old) == words(&row)
        };
        rows.retain(|old| !same(old));
        rows.push(row);
    }
    Ok(rows)
}

fn row(fields: &[String]) -> Option<Row> {
    let [part, axis, x, contender, figure, _, _, _, median, ..] = fields else { return None };
    let [part, axis, contender, figure] = [part, axis, contender, figure].map(String::clone);
    Some(Row { part, axis, x: x.parse().ok()?, contender, figure, median: median.parse().ok()? })
}

/// Commas between quotes do not count.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().expect("begun with one").push(c),
        }
    }
    fields
}
