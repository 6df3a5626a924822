//! Sequences of calls on an `FdMap`: each must answer as it is documented, and
//! each plan must do to the model's fd table what was asked.
#![no_main]

use arbitrary::Arbitrary;
use forkplan::plan::{Closing, FdMap, FdMapError};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/fd_model.rs"]
mod fd_model;

use fd_model::Request;

/// Mostly near each other, or nothing would ever be in anybody's way.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Near(u8),
    Far(u16),
    Any(i32),
}

impl Number {
    fn get(self) -> i32 {
        match self {
            Self::Near(number) => i32::from(number % 16),
            Self::Far(number) => i32::from(number),
            Self::Any(number) => number,
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Call {
    Map(Number, Number),
    Keep(Number),
    Spare(Number),
    Limit(Number),
    Unshare,
    Range,
    Listed,
    Each(Number),
    KeepUnnamed,
    Solve,
}

#[derive(Arbitrary, Debug)]
enum Capacity {
    None,
    One,
    Two,
    Eight,
    Many,
}

fuzz_target!(|input: (Capacity, Vec<Call>)| {
    let (capacity, calls) = input;
    match capacity {
        Capacity::None => run::<0>(&calls),
        Capacity::One => run::<1>(&calls),
        Capacity::Two => run::<2>(&calls),
        Capacity::Eight => run::<8>(&calls),
        Capacity::Many => run::<64>(&calls),
    }
});

fn run<const N: usize>(calls: &[Call]) {
    let mut map = FdMap::<N>::new();
    let mut request = Request::new(&[], &[], Closing::Range);
    for call in calls {
        let closing = match *call {
            Call::Map(target, source) => {
                add_entry(&mut map, &mut request, target.get(), source.get());
                continue;
            }
            Call::Keep(fd) => {
                let result = map.keep(fd.get()).map(drop);
                add_fd::<N>(&mut request.keep, fd.get(), result);
                continue;
            }
            Call::Spare(fd) => {
                let result = map.spare(fd.get()).map(drop);
                add_fd::<N>(&mut request.spare, fd.get(), result);
                continue;
            }
            Call::Limit(limit) => {
                request.limit = limit.get();
                map.limit(limit.get());
                continue;
            }
            Call::Solve => {
                solve(&mut map, &request);
                continue;
            }
            Call::Unshare => Closing::Unshare,
            Call::Range => Closing::Range,
            Call::Listed => Closing::Listed,
            Call::Each(below) => Closing::Each { below: below.get() },
            Call::KeepUnnamed => Closing::Keep,
        };
        request.closing = closing;
        map.closing(closing);
    }
    solve(&mut map, &request);
}

fn add_entry<const N: usize>(map: &mut FdMap<N>, request: &mut Request, target: i32, source: i32) {
    let expected = if target < 0 {
        Err(FdMapError::NegativeTarget(target))
    } else if source < 0 {
        Err(FdMapError::NegativeSource { target, source })
    } else if request.map.iter().any(|&(mapped, _)| mapped == target) {
        Err(FdMapError::DuplicateTarget(target))
    } else if request.map.len() == N {
        Err(FdMapError::Full { capacity: N })
    } else {
        request.map.push((target, source));
        Ok(())
    };
    assert_eq!(map.map(target, source).map(drop), expected);
}

fn add_fd<const N: usize>(fds: &mut Vec<i32>, fd: i32, result: Result<(), FdMapError>) {
    let expected = if fd < 0 {
        Err(FdMapError::NegativeFd(fd))
    } else if fds.len() == N {
        Err(FdMapError::Full { capacity: N })
    } else {
        fds.push(fd);
        Ok(())
    };
    assert_eq!(result, expected);
}

fn solve<const N: usize>(map: &mut FdMap<N>, request: &Request) {
    // Spare numbers that are not free are the caller's mistake, and named, unless
    // something else is wrong that is found before.
    if request.closing == Closing::Keep && !request.spares_are_free() {
        let error = map.solve().err();
        let named =
            matches!(error, Some(FdMapError::SpareInUse(fd)) if request.spare.contains(&fd));
        assert!(named || matches!(error, Some(FdMapError::TargetAtLimit { .. })), "{error:?}");
    } else if let Err(error) = request.check_map(map) {
        panic!("{error}");
    }
}
