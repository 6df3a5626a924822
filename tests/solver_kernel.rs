//! The fd solver's steps carried out by the kernel, literally, and the table
//! that comes of it compared with the request and with the model's table.
//!
//! Each test runs in a thread with an fd table of its own, of which it takes
//! the low numbers: 0, 1 and 2 are ordinary there. Nothing of such a thread may
//! go to an fd, so what is wrong is a `String` that the thread returns.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::{fs, io, thread};

use forkplan::plan::{Closing, FdMap, FdPlan, Step};
use libc::{c_int, c_uint};

#[path = "support/fd_maps.rs"]
mod fd_maps;
#[path = "support/fd_model.rs"]
mod fd_model;

use fd_maps::{Random, every_map};
use fd_model::{Fd, PARENTS, Parent, Request, Table, all_steps, apply};

/// The numbers that are looked at and put back between two plans. What the
/// harness has open is above them, or lost to this thread alone.
const WINDOW: i32 = 64;

const CLOSE_RANGE_UNSHARE: c_uint = 1 << 1;
const CLOSE_RANGE_CLOEXEC: c_uint = 1 << 2;

#[test]
fn every_map_of_up_to_four_comes_about() {
    in_a_table_of_its_own(|| {
        for targets in 0..=4 {
            for map in every_map(targets, targets) {
                check_for_all_closings(&map, &[])?;
            }
        }
        Ok(())
    });
}

#[test]
fn every_map_of_up_to_three_with_a_kept_fd_comes_about() {
    in_a_table_of_its_own(|| {
        for kept in 0..4 {
            for map in (0..=3).flat_map(|targets| every_map(targets, targets)) {
                check_for_all_closings(&map, &[kept])?;
            }
        }
        Ok(())
    });
}

#[test]
fn maps_of_six_from_a_fixed_seed_come_about_at_low_and_at_high_numbers() {
    in_a_table_of_its_own(|| {
        let mut random = Random(0x666f_726b_706c_616e);
        for _ in 0..1500 {
            let base = [0, 30][random.below(2) as usize];
            let mut any = || base + random.below(7) as i32;
            let map: Vec<_> = (0..6).map(|target| (base + target, any())).collect();
            let keep = [any(), any()];
            // Some targets are left out, so that there are gaps.
            let gaps = random.below(1 << 6) & random.below(1 << 6);
            let map: Vec<_> =
                map.into_iter().filter(|(t, _)| gaps & (1 << (t - base)) == 0).collect();
            check_for_all_closings(&map, &keep[..random.below(3) as usize])?;
        }
        Ok(())
    });
}

/// If the model were kinder than the kernel, it would prove nothing. And wrong
/// steps must be noticed here too.
#[test]
fn the_model_agrees_with_the_kernel_on_wrong_steps_too() {
    in_a_table_of_its_own(|| {
        let mut noticed = 0;
        for map in every_map(4, 4) {
            let copy = |&(to, from): &(i32, i32)| Step::Dup2 { from, to };
            let moved = map.iter().filter(|(target, source)| target != source);
            let steps: Vec<Step> = moved.map(copy).collect();
            let request = Request::new(&map, &[], Closing::Range);
            for parent in PARENTS {
                let after = agree(&request, parent, &steps)?;
                let result = request.verify(&request.table(parent), &after, |_| None);
                noticed += usize::from(result.is_err_and(|e| e.starts_with("child fd")));
            }
        }
        match noticed {
            400.. => Ok(()),
            _ => Err(format!("only {noticed} noticed")),
        }
    });
}

/// If the model were harder than the kernel, it would ask for steps that nobody needs.
#[test]
fn the_kernel_refuses_what_the_model_refuses() {
    in_a_table_of_its_own(|| {
        let request = Request::new(&[(0, 0)], &[], Closing::Range);
        let wrong = [
            Step::Dup2 { from: 5, to: 1 },
            Step::DupCloexec { from: 5, to: 1 },
            Step::DupCloexec { from: 0, to: 0 },
            Step::Dup2 { from: 0, to: -1 },
            Step::ClearCloexec { fd: 5 },
            Step::SetCloexec { fd: 5 },
            Step::MarkRange { first: 3, last: Some(2) },
        ];
        for step in wrong {
            let mut table = request.table(PARENTS[1]);
            set_up(&table).map_err(|e| e.to_string())?;
            let kernel = carry_out(&[step]);
            let model = apply(&mut table, &[step], i32::MAX);
            if kernel.is_ok() || model.is_ok() {
                return Err(format!("{step}: {kernel:?} and {model:?}"));
            }
        }
        Ok(())
    });
}

/// Runs `work` where it can do to fds what it likes.
#[track_caller]
fn in_a_table_of_its_own(work: impl FnOnce() -> Result<(), String> + Send + 'static) {
    let thread = thread::spawn(|| {
        // SAFETY: takes integers alone; the thread's fds are its own after it.
        match unsafe { libc::unshare(libc::CLONE_FILES) } {
            0 => work(),
            _ => Err(format!("unshare: {}", io::Error::last_os_error())),
        }
    });
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn check_for_all_closings(map: &[(i32, i32)], keep: &[i32]) -> Result<(), String> {
    let mut closings = vec![Closing::Listed, Closing::Each { below: WINDOW }, Closing::Keep];
    if kernel_has_close_range() {
        closings.extend([Closing::Unshare, Closing::Range]);
    }
    for closing in closings {
        let spare = vec![WINDOW - 1, WINDOW - 2, WINDOW - 3];
        let request = Request { spare, ..Request::new(map, keep, closing) };
        let mut map = FdMap::<8>::new();
        let plan = request.solve(&mut map);
        for parent in PARENTS {
            check(&request, parent, &plan).map_err(|e| format!("{e}\n{request:?}\n{plan}"))?;
        }
    }
    Ok(())
}

fn check(request: &Request, parent: Parent, plan: &FdPlan<'_>) -> Result<(), String> {
    let after = agree(request, parent, &all_steps(plan))?;
    request.verify(&request.table(parent), &after, |fd| plan.place(fd))
}

/// The table that the kernel makes, which must be the model's.
fn agree(request: &Request, parent: Parent, steps: &[Step]) -> Result<Table, String> {
    let mut model = request.table(parent);
    let files = set_up(&model).map_err(|e| format!("set up: {e}"))?;
    carry_out(steps)?;
    let kernel = look(&files);
    apply(&mut model, steps, i32::MAX)?;
    match kernel == model {
        true => Ok(kernel),
        false => Err(format!("the kernel has {kernel:?}, the model {model:?}")),
    }
}

/// Inodes, and the number at which each file was opened.
type Files = BTreeMap<libc::ino_t, i32>;

/// Makes the low numbers of this thread's table what `table` says, each with a
/// file of its own.
fn set_up(table: &Table) -> io::Result<Files> {
    for number in 0..WINDOW {
        // SAFETY: the numbers are this thread's, and it owns none of them.
        unsafe { libc::close(number) };
    }
    let mut files = Files::new();
    for (&number, fd) in table {
        // SAFETY: the name is a C string.
        let made = done(unsafe { libc::memfd_create(c"forkplan".as_ptr(), libc::MFD_CLOEXEC) })?;
        // The lowest free number: this one, or one below that has to be free.
        if made != number {
            // SAFETY: `made` is open and of no use to anybody else.
            unsafe {
                done(libc::dup3(made, number, libc::O_CLOEXEC))?;
                libc::close(made);
            }
        }
        set_flag(number, fd.cloexec)?;
        files.insert(inode(number).ok_or_else(io::Error::last_os_error)?, number);
    }
    Ok(files)
}

/// What this thread's low numbers are now.
fn look(files: &Files) -> Table {
    let fd = |number| {
        let what = files[&inode(number)?];
        // SAFETY: takes integers alone.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        Some((number, Fd { what, cloexec: flags & libc::FD_CLOEXEC != 0 }))
    };
    (0..WINDOW).filter_map(fd).collect()
}

fn inode(fd: c_int) -> Option<libc::ino_t> {
    // SAFETY: `stat` is plain data, for which all zeros is a value.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: `stat` is large enough and lives.
    let result = unsafe { libc::fstat(fd, &mut stat) };
    (result == 0).then_some(stat.st_ino)
}

fn carry_out(steps: &[Step]) -> Result<(), String> {
    steps.iter().try_for_each(|&step| take(step).map_err(|error| format!("{step}: {error}")))
}

fn take(step: Step) -> io::Result<()> {
    match step {
        Step::Unshare { first } => close_range(first, None, CLOSE_RANGE_UNSHARE),
        Step::MarkRange { first, last } => close_range(first, last, CLOSE_RANGE_CLOEXEC),
        Step::MarkListed { first } => {
            // The thread's own table; `/proc/self/fd` is the first thread's.
            let names = fs::read_dir("/proc/thread-self/fd")?;
            let numbers = names.map(|name| Ok(name?.file_name().to_string_lossy().parse()));
            let numbers: io::Result<Vec<Result<c_int, _>>> = numbers.collect();
            mark_open(numbers?.into_iter().flatten().filter(|&number| number >= first))
        }
        Step::MarkEach { first, below } => mark_open(first..below),
        Step::Dup2 { from, to } => {
            // SAFETY: numbers of this thread's own table, none of them owned.
            let result = unsafe { libc::dup2(from, to) };
            done(result).map(drop)
        }
        Step::DupCloexec { from, to } => {
            // SAFETY: as above.
            let result = unsafe { libc::dup3(from, to, libc::O_CLOEXEC) };
            done(result).map(drop)
        }
        Step::ClearCloexec { fd } => set_flag(fd, false),
        Step::SetCloexec { fd } => set_flag(fd, true),
        _ => Err(io::Error::other("no step of an fd plan")),
    }
}

fn close_range(first: c_int, last: Option<c_int>, flags: c_uint) -> io::Result<()> {
    let last = last.map_or(c_uint::MAX, |last| last as c_uint);
    // SAFETY: numbers of this thread's own table, none of them owned.
    done(unsafe { libc::syscall(libc::SYS_close_range, first as c_uint, last, flags) } as c_int)?;
    Ok(())
}

/// Not before Linux 5.11, and not under every emulator: then the solver's other
/// ways of closing are tried alone.
fn kernel_has_close_range() -> bool {
    close_range(c_int::MAX, None, CLOSE_RANGE_CLOEXEC).is_ok()
}

/// Numbers that nobody has open are passed over.
fn mark_open(mut numbers: impl Iterator<Item = c_int>) -> io::Result<()> {
    numbers.try_for_each(|number| match set_flag(number, true) {
        Err(error) if error.raw_os_error() != Some(libc::EBADF) => Err(error),
        _ => Ok(()),
    })
}

fn set_flag(fd: c_int, cloexec: bool) -> io::Result<()> {
    let flag = if cloexec { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: takes integers alone.
    done(unsafe { libc::fcntl(fd, libc::F_SETFD, flag) }).map(drop)
}

fn done(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
