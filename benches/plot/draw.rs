//! One chart, as SVG.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

pub struct Chart<'a> {
    pub title: &'a str,
    /// Always on a logarithmic scale.
    pub x: &'a str,
    pub y: &'a str,
    pub log_y: bool,
    pub lines: Vec<Line>,
}

const SIZE: (u32, u32) = (900, 520);

/// Okabe and Ito's, which are told apart by all eyes, and grey.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(150, 130, 20),
    RGBColor(130, 130, 130),
];

impl Chart<'_> {
    /// Nothing to draw is an error: a plot without lines would be shown as one.
    pub fn draw(&self, path: &Path) -> Result<(), String> {
        let fails = |e: &dyn Error| format!("{}: {e}", path.display());
        let points = || self.lines.iter().flat_map(|line| line.points.iter().copied());
        if points().next().is_none() {
            return Err(format!("{}: there are no figures for it", path.display()));
        }
        let (xs, ys) = (span(points().map(|p| p.0)), span(points().map(|p| p.1)));
        let xs = xs.start * 0.9..xs.end * 1.1;
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        let drawn = match self.log_y {
            true => self.draw_in(&area, xs, (ys.start * 0.8..ys.end * 1.25).log_scale()),
            false => self.draw_in(&area, xs, 0.0..ys.end * 1.1),
        };
        drawn.map_err(|e| fails(&*e))?;
        area.present().map_err(|e| fails(&e))?;
        println!("{}", path.display());
        Ok(())
    }

    fn draw_in<Y>(
        &self,
        area: &DrawingArea<SVGBackend<'_>, Shift>,
        xs: Range<f64>,
        ys: Y,
    ) -> Result<(), Box<dyn Error>>
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        area.fill(&WHITE)?;
        let (area, legend) = area.split_horizontally(640);
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 15))
            .margin(10)
            .x_label_area_size(45)
            .y_label_area_size(70)
            .build_cartesian_2d(xs.log_scale(), ys)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .label_style(("sans-serif", 13))
            .draw()?;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?;
            let dots = line.points.iter().map(|&at| Circle::new(at, 3, colour.filled()));
            chart.draw_series(dots)?;
        }
        // Beside the lines, which cover most of the chart.
        for ((line, colour), at) in self.lines.iter().zip(COLOURS.iter().cycle()).zip(0..) {
            let y = 60 + at * 24;
            legend.draw(&PathElement::new([(5, y), (27, y)], colour.stroke_width(3)))?;
            legend.draw(&Text::new(line.name.clone(), (34, y - 7), ("sans-serif", 13)))?;
        }
        Ok(())
    }
}

fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    low.max(1e-3)..high.max(1e-3)
}

/// 20000 as 20,000.
fn number(value: &f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
