//! What an fd map refuses and where its numbers end, maps that leave unnamed
//! fds open, where fds are said to be found, and how all this reads.

use forkplan::plan::{Closing, FdMap, FdMapError, Step};

type Map = FdMap<4>;

fn swap() -> Map {
    let mut map = Map::new();
    map.map(1, 2).unwrap().map(2, 1).unwrap();
    map
}

fn moves(map: &mut Map) -> Vec<Step> {
    map.solve().unwrap().moves().to_vec()
}

#[test]
fn a_negative_number_is_refused_by_its_part() {
    let mut map = Map::new();
    assert_eq!(map.map(-1, 3).unwrap_err(), FdMapError::NegativeTarget(-1));
    let source = FdMapError::NegativeSource { target: 3, source: i32::MIN };
    assert_eq!(map.map(3, i32::MIN).unwrap_err(), source);
    assert_eq!(map.map(-2, -3).unwrap_err(), FdMapError::NegativeTarget(-2));
    assert_eq!(map.keep(-4).unwrap_err(), FdMapError::NegativeFd(-4));
    assert_eq!(map.spare(-5).unwrap_err(), FdMapError::NegativeFd(-5));
    assert!(moves(&mut map).is_empty(), "nothing of it was taken");
}

#[test]
fn a_target_is_mapped_once_even_to_the_same_source() {
    let mut map = Map::new();
    map.map(3, 7).unwrap();
    assert_eq!(map.map(3, 8).unwrap_err(), FdMapError::DuplicateTarget(3));
    assert_eq!(map.map(3, 7).unwrap_err(), FdMapError::DuplicateTarget(3));
    assert_eq!(moves(&mut map), [Step::Dup2 { from: 7, to: 3 }], "the first one stays");
}

#[test]
fn entries_are_told_in_the_order_of_targets() {
    let mut map = Map::default();
    assert!(map.entries().is_empty());
    map.map(9, 1).unwrap().map(2, 8).unwrap().map(4, 4).unwrap();
    let pairs: Vec<_> = map.entries().iter().map(|m| (m.target, m.source)).collect();
    assert_eq!(pairs, [(2, 8), (4, 4), (9, 1)]);
}

#[test]
fn entries_kept_fds_and_spare_numbers_have_room_each() {
    let full = FdMapError::Full { capacity: 2 };
    let mut map = FdMap::<2>::new();
    for fd in 0..2 {
        map.map(fd, fd + 10).unwrap().keep(fd + 20).unwrap().spare(fd + 30).unwrap();
    }
    assert_eq!(map.map(2, 12).unwrap_err(), full);
    assert_eq!(map.keep(22).unwrap_err(), full);
    assert_eq!(map.spare(32).unwrap_err(), full);
    assert_eq!(map.map(1, 12).unwrap_err(), FdMapError::DuplicateTarget(1), "that is worse");
    assert_eq!(map.solve().unwrap().moves().len(), 2);
}

#[test]
fn a_map_without_room_still_closes() {
    let mut map = FdMap::<0>::new();
    assert_eq!(map.map(0, 0).unwrap_err(), FdMapError::Full { capacity: 0 });
    assert_eq!(map.keep(0).unwrap_err(), FdMapError::Full { capacity: 0 });
    assert_eq!(map.spare(0).unwrap_err(), FdMapError::Full { capacity: 0 });
    for limit in [i32::MIN, 0, i32::MAX] {
        let plan = map.limit(limit).solve().unwrap();
        assert_eq!(plan.to_string(), "1  close_range 0 -> ~0 CLOEXEC\n");
        assert_eq!(plan.place(0), None);
    }
}

#[test]
fn a_map_of_one_entry_uses_all_of_its_memory() {
    // The entry, the kept fd in its way, and the number that this moves to.
    let mut map = FdMap::<1>::new();
    map.map(0, 31).unwrap().keep(0).unwrap();
    let plan = map.solve().unwrap();
    assert_eq!(plan.moves(), [Step::DupCloexec { from: 0, to: 1 }, Step::Dup2 { from: 31, to: 0 }]);
}

#[test]
fn a_target_at_the_limit_is_refused_and_a_source_is_not() {
    // The limit may have been lowered below fds that are open.
    let mut map = Map::new();
    map.map(3, 200).unwrap().map(64, 3).unwrap().map(65, 3).unwrap();
    let error = map.limit(64).solve().unwrap_err();
    assert_eq!(error, FdMapError::TargetAtLimit { target: 64, limit: 64 });
    assert!(map.limit(66).solve().is_ok());
    // Even one that stays, though its flag could be cleared: the rule is plain.
    let mut map = Map::new();
    map.map(64, 64).unwrap();
    let error = map.limit(64).solve().unwrap_err();
    assert_eq!(error, FdMapError::TargetAtLimit { target: 64, limit: 64 });
}

#[test]
fn a_copy_put_aside_needs_a_number_below_the_limit() {
    let mut map = swap();
    map.keep(0).unwrap();
    let error = map.limit(3).solve().unwrap_err();
    assert_eq!(error, FdMapError::NoNumber { limit: 3 });
    map.limit(4);
    assert_eq!(moves(&mut map)[0], Step::DupCloexec { from: 1, to: 3 });
}

#[test]
fn unnamed_fds_that_stay_open_leave_only_the_spare_numbers() {
    let mut map = swap();
    map.closing(Closing::Keep);
    assert_eq!(map.solve().unwrap_err(), FdMapError::NeedsSpare);
    map.spare(9).unwrap();
    assert_eq!(map.solve().unwrap().closing().count(), 0);
    let dup2 = |from, to| Step::Dup2 { from, to };
    let aside = Step::DupCloexec { from: 1, to: 9 };
    assert_eq!(moves(&mut map), [aside, dup2(2, 1), dup2(9, 2)]);
}

#[test]
fn spare_numbers_are_taken_in_the_order_given_one_for_each_kept_fd() {
    let mut map = Map::new();
    map.map(0, 5).unwrap().map(1, 6).unwrap();
    map.keep(0).unwrap().keep(1).unwrap().closing(Closing::Keep);
    map.spare(9).unwrap();
    assert_eq!(map.solve().unwrap_err(), FdMapError::NeedsSpare);
    map.spare(8).unwrap();
    let plan = map.solve().unwrap();
    assert_eq!((plan.place(0), plan.place(1)), (Some(9), Some(8)));
}

#[test]
fn a_kept_fd_is_marked_where_nothing_else_marks_it() {
    let mut map = Map::new();
    map.map(1, 7).unwrap().keep(7).unwrap().keep(9).unwrap().closing(Closing::Keep);
    let mark = |fd| Step::SetCloexec { fd };
    assert_eq!(moves(&mut map), [mark(7), mark(9), Step::Dup2 { from: 7, to: 1 }]);
}

#[test]
fn a_kept_fd_that_is_mapped_where_it_is_stays_open() {
    // A mark would only be cleared again.
    let mut map = Map::new();
    map.map(1, 1).unwrap().keep(1).unwrap().closing(Closing::Keep);
    assert_eq!(moves(&mut map), [Step::ClearCloexec { fd: 1 }]);
}

#[test]
fn the_largest_numbers_overflow_nothing() {
    const MAX: i32 = i32::MAX;
    let closings =
        [Closing::Unshare, Closing::Range, Closing::Listed, Closing::Each { below: MAX }];
    for closing in closings {
        let mut map = Map::new();
        map.map(0, MAX).unwrap().map(MAX - 1, 0).unwrap().keep(MAX).unwrap().closing(closing);
        let plan = map.solve().unwrap();
        let dup2 = |from, to| Step::Dup2 { from, to };
        assert_eq!(plan.moves()[plan.moves().len() - 2..], [dup2(0, MAX - 1), dup2(MAX, 0)]);
        assert_eq!(plan.place(MAX), Some(0));
    }
    // The largest of all is no fd's number: `fs.nr_open` is at most 2^31 - 64.
    // So nothing is lost where the new table ends just below it.
    let mut map = Map::new();
    map.map(0, MAX).unwrap().closing(Closing::Unshare);
    let first = map.solve().unwrap().closing().next();
    assert_eq!(first, Some(Step::Unshare { first: MAX }));
    map.map(MAX, 0).unwrap();
    let error = map.solve().unwrap_err();
    assert_eq!(error, FdMapError::TargetAtLimit { target: MAX, limit: MAX });
}

#[test]
fn a_place_is_the_lowest_copy_or_where_the_fd_is_kept() {
    let mut map = Map::new();
    map.map(3, 7).unwrap().map(5, 7).unwrap().map(4, 4).unwrap();
    map.keep(5).unwrap().keep(9).unwrap();
    let plan = map.solve().unwrap();
    assert_eq!(plan.place(7), Some(3), "the lower of two copies");
    assert_eq!(plan.place(4), Some(4), "stays");
    assert_eq!(plan.place(5), Some(0), "kept, moved out of the way");
    assert_eq!(plan.place(9), Some(9), "kept in place");
    assert_eq!(plan.place(3), None, "overwritten");
    assert_eq!(plan.place(6), None, "unnamed");
    assert_eq!(plan.place(-1), None);
}

#[test]
fn a_map_can_be_solved_again_and_after_an_error() {
    let mut map = swap();
    let first = moves(&mut map);
    assert_eq!(moves(&mut map), first);
    map.limit(2).solve().unwrap_err();
    map.limit(i32::MAX);
    assert_eq!(moves(&mut map), first);
    assert_eq!(moves(&mut map.clone()), first);
}

#[test]
fn a_plan_reads_as_numbered_syscalls() {
    let mut map = swap();
    map.map(0, 0).unwrap().closing(Closing::Unshare);
    assert_eq!(
        map.solve().unwrap().to_string(),
        "1  close_range 3 -> ~0 UNSHARE\n\
         2  dup3 1 -> 3 CLOEXEC\n\
         3  dup2 2 -> 1\n\
         4  dup2 3 -> 2\n\
         5  fcntl 0 F_SETFD 0\n"
    );
    let mut map = Map::new();
    map.map(1, 6).unwrap().keep(9).unwrap();
    let mut first_line = |closing| {
        let text = map.closing(closing).solve().unwrap().to_string();
        text.lines().next().unwrap().to_owned()
    };
    assert_eq!(first_line(Closing::Range), "1  close_range 0 -> ~0 CLOEXEC");
    let listed = "1  fcntl 0.. F_SETFD FD_CLOEXEC, those in /proc/self/fd";
    assert_eq!(first_line(Closing::Listed), listed);
    let each = first_line(Closing::Each { below: 64 });
    assert_eq!(each, "1  fcntl 0..64 F_SETFD FD_CLOEXEC, each");
    assert_eq!(first_line(Closing::Keep), "1  fcntl 9 F_SETFD FD_CLOEXEC");
}

#[test]
fn errors_read_as_sentences_with_their_numbers() {
    let texts = [
        (FdMapError::NegativeTarget(-1), "child fd -1 is negative"),
        (
            FdMapError::NegativeSource { target: 3, source: -2 },
            "child fd 3: its source -2 is negative",
        ),
        (FdMapError::NegativeFd(-3), "fd -3 is negative"),
        (FdMapError::DuplicateTarget(3), "child fd 3 is mapped twice"),
        (
            FdMapError::TargetAtLimit { target: 64, limit: 64 },
            "child fd 64 is not below the limit of 64 (RLIMIT_NOFILE)",
        ),
        (FdMapError::Full { capacity: 8 }, "the fd map is full: it holds 8"),
        (
            FdMapError::NoNumber { limit: 3 },
            "no fd number below the limit of 3 is free for a copy put aside",
        ),
        (FdMapError::SpareInUse(6), "fd 6 can't be spared: it is in use or too large"),
        (FdMapError::NeedsSpare, "unnamed fds are kept, and no spare number is left for a copy"),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn as_many_kept_fds_as_there_is_room_for_leave_a_number_for_a_copy() {
    let mut map = FdMap::<64>::new();
    map.map(0, 5).unwrap();
    for fd in 0..64 {
        map.keep(fd).unwrap();
    }
    // 0 makes way, for the lowest number that nobody has.
    assert_eq!(map.solve().unwrap().place(0), Some(64));
}

#[test]
fn a_spare_number_that_is_in_use_is_named() {
    for spare in [1, 5, 7, 100] {
        let mut map = FdMap::<4>::new();
        map.map(1, 5).unwrap().keep(7).unwrap().spare(spare).unwrap().limit(100);
        map.closing(Closing::Keep);
        assert_eq!(map.solve().unwrap_err(), FdMapError::SpareInUse(spare));
        // Control: where nobody takes a spare number it may be any.
        map.closing(Closing::Range);
        assert!(map.solve().is_ok());
    }
    let mut map = FdMap::<4>::new();
    map.spare(50).unwrap().spare(50).unwrap().closing(Closing::Keep);
    assert_eq!(map.solve().unwrap_err(), FdMapError::SpareInUse(50));
}
