//! The fd solver's steps for the maps that people ask for, step by step, with
//! the reason for each.

use forkplan::plan::{Closing, FdMap, Step};

type Map = FdMap<8>;

fn map(entries: &[(i32, i32)]) -> Map {
    let mut map = Map::new();
    for &(target, source) in entries {
        map.map(target, source).unwrap();
    }
    map
}

fn dup2(from: i32, to: i32) -> Step {
    Step::Dup2 { from, to }
}

fn aside(from: i32, to: i32) -> Step {
    Step::DupCloexec { from, to }
}

fn clear(fd: i32) -> Step {
    Step::ClearCloexec { fd }
}

fn mark(fd: i32) -> Step {
    Step::SetCloexec { fd }
}

#[track_caller]
fn assert_moves(map: &mut Map, expected: &[Step]) {
    let plan = map.solve().unwrap();
    assert_eq!(plan.moves(), expected, "\n{plan}");
}

#[track_caller]
fn assert_closing(map: &mut Map, closing: Closing, expected: &[Step]) {
    let plan = map.closing(closing).solve().unwrap();
    assert!(plan.closing().eq(expected.iter().copied()), "\n{plan}");
}

#[test]
fn an_empty_map_moves_nothing_and_closes_everything() {
    assert_moves(&mut map(&[]), &[]);
    assert_closing(&mut map(&[]), Closing::Range, &[Step::MarkRange { first: 0, last: None }]);
}

#[test]
fn an_fd_that_stays_is_cleared_and_not_copied() {
    // dup2(3, 3) would leave the flag, dup3(3, 3) is EINVAL.
    assert_moves(&mut map(&[(3, 3)]), &[clear(3)]);
}

#[test]
fn a_move_is_one_copy_and_the_source_is_left_to_exec() {
    assert_moves(&mut map(&[(1, 7)]), &[dup2(7, 1)]);
}

#[test]
fn the_order_of_asking_does_not_matter() {
    assert_moves(&mut map(&[(5, 9), (0, 8), (3, 7)]), &[dup2(8, 0), dup2(7, 3), dup2(9, 5)]);
}

#[test]
fn one_source_serves_many_targets() {
    assert_moves(&mut map(&[(1, 7), (4, 7), (9, 7)]), &[dup2(7, 1), dup2(7, 4), dup2(7, 9)]);
}

#[test]
fn stderr_as_a_copy_of_stdout_comes_before_the_clearing_of_what_stays() {
    // The order of the last two is free, since a copy has a flag of its own.
    assert_moves(&mut map(&[(0, 0), (1, 1), (2, 1)]), &[dup2(1, 2), clear(0), clear(1)]);
}

#[test]
fn inetd_gives_one_socket_to_all_three() {
    assert_moves(&mut map(&[(0, 5), (1, 5), (2, 5)]), &[dup2(5, 0), dup2(5, 1), dup2(5, 2)]);
}

#[test]
fn inetd_with_the_socket_already_there_copies_to_the_other_two() {
    assert_moves(&mut map(&[(0, 1), (1, 1), (2, 1)]), &[dup2(1, 0), dup2(1, 2), clear(1)]);
}

#[test]
fn a_swap_of_stdout_and_stderr_keeps_both() {
    // The lowest number that nobody named, which here is 0, holds one of them.
    assert_moves(&mut map(&[(1, 2), (2, 1)]), &[aside(1, 0), dup2(2, 1), dup2(0, 2)]);
}

#[test]
fn a_swap_beside_a_mapped_stdin_puts_the_copy_above() {
    assert_moves(
        &mut map(&[(0, 0), (1, 2), (2, 1)]),
        &[aside(1, 3), dup2(2, 1), dup2(3, 2), clear(0)],
    );
}

#[test]
fn a_cycle_of_three_takes_one_copy_more_either_way_round() {
    assert_moves(
        &mut map(&[(0, 1), (1, 2), (2, 0)]),
        &[aside(0, 3), dup2(1, 0), dup2(2, 1), dup2(3, 2)],
    );
    assert_moves(
        &mut map(&[(0, 2), (1, 0), (2, 1)]),
        &[aside(0, 3), dup2(2, 0), dup2(1, 2), dup2(3, 1)],
    );
}

#[test]
fn a_chain_upwards_goes_in_the_order_of_targets() {
    assert_moves(&mut map(&[(0, 1), (1, 2), (2, 3)]), &[dup2(1, 0), dup2(2, 1), dup2(3, 2)]);
}

#[test]
fn a_chain_downwards_goes_from_its_end() {
    // 0 is read by 1, and 1 by 2: whoever is overwritten was read before.
    assert_moves(&mut map(&[(0, 7), (1, 0), (2, 1)]), &[dup2(1, 2), dup2(0, 1), dup2(7, 0)]);
}

#[test]
fn a_target_that_two_read_waits_for_both() {
    assert_moves(&mut map(&[(0, 7), (1, 0), (2, 0)]), &[dup2(0, 1), dup2(0, 2), dup2(7, 0)]);
}

#[test]
fn a_copy_outside_the_cycle_serves_in_place_of_scratch() {
    // 5 has what 0 had, so 0 can be overwritten and 1 is made from 5.
    assert_moves(&mut map(&[(0, 1), (1, 0), (5, 0)]), &[dup2(0, 5), dup2(1, 0), dup2(5, 1)]);
}

#[test]
fn a_chain_that_starts_in_a_cycle_serves_by_its_first_copy() {
    // 6 has what 5 had; 5 then has what 0 had, and that breaks the cycle.
    assert_moves(
        &mut map(&[(0, 1), (1, 0), (5, 0), (6, 5)]),
        &[dup2(5, 6), dup2(0, 5), dup2(1, 0), dup2(5, 1)],
    );
}

#[test]
fn two_cycles_share_one_scratch_number() {
    assert_moves(
        &mut map(&[(0, 1), (1, 0), (2, 3), (3, 2)]),
        &[aside(0, 4), dup2(1, 0), dup2(4, 1), aside(2, 4), dup2(3, 2), dup2(4, 3)],
    );
}

#[test]
fn a_kept_fd_that_is_in_nobodys_way_stays_where_it_is() {
    let mut map = map(&[(1, 7)]);
    map.keep(9).unwrap();
    assert_moves(&mut map, &[dup2(7, 1)]);
    assert_eq!(map.solve().unwrap().place(9), Some(9));
}

#[test]
fn a_kept_fd_in_the_way_moves_to_the_lowest_free_number() {
    let mut map = map(&[(0, 7), (1, 7), (3, 7)]);
    map.keep(3).unwrap();
    assert_moves(&mut map, &[aside(3, 2), dup2(7, 0), dup2(7, 1), dup2(7, 3)]);
    assert_eq!(map.solve().unwrap().place(3), Some(2));
}

#[test]
fn a_kept_fd_that_somebody_copies_needs_no_place_of_its_own() {
    let mut map = map(&[(1, 3), (3, 7)]);
    map.keep(3).unwrap();
    assert_moves(&mut map, &[dup2(3, 1), dup2(7, 3)]);
    assert_eq!(map.solve().unwrap().place(3), Some(1));
}

#[test]
fn a_kept_fd_in_the_way_and_a_cycle_have_numbers_of_their_own() {
    // The kept fd is needed after the cycle is done, so 3 is taken till the end.
    let mut map = map(&[(0, 1), (1, 0), (2, 7)]);
    map.keep(2).unwrap();
    assert_moves(&mut map, &[aside(2, 3), dup2(7, 2), aside(0, 4), dup2(1, 0), dup2(4, 1)]);
    assert_eq!(map.solve().unwrap().place(2), Some(3));
}

#[test]
fn a_kept_fd_that_is_said_twice_moves_once() {
    let mut map = map(&[(1, 7)]);
    map.keep(1).unwrap().keep(1).unwrap();
    assert_moves(&mut map, &[aside(1, 0), dup2(7, 1)]);
}

#[test]
fn a_scratch_number_is_no_kept_fd() {
    let mut map = map(&[(1, 2), (2, 1)]);
    map.keep(0).unwrap().keep(3).unwrap();
    assert_moves(&mut map, &[aside(1, 4), dup2(2, 1), dup2(4, 2)]);
}

#[test]
fn as_many_kept_fds_as_there_is_room_for_leave_a_number_to_be_found() {
    // One entry, and 0 to 63 kept: 64 is the first free number.
    let mut map = FdMap::<64>::new();
    map.map(0, 100).unwrap();
    for fd in 0..64 {
        map.keep(fd).unwrap();
    }
    let plan = map.solve().unwrap();
    assert_eq!(plan.moves(), [aside(0, 64), dup2(100, 0)]);
}

#[test]
fn a_table_of_its_own_comes_first_and_ends_above_all_sources() {
    // Targets above that end are free numbers of the new table.
    let steps = [Step::Unshare { first: 8 }, Step::MarkRange { first: 0, last: Some(7) }];
    assert_closing(&mut map(&[(1, 7), (20, 3)]), Closing::Unshare, &steps);
}

#[test]
fn a_table_of_its_own_holds_the_kept_fds_too() {
    let mut map = map(&[(1, 7)]);
    map.keep(9).unwrap();
    let steps = [Step::Unshare { first: 10 }, Step::MarkRange { first: 0, last: Some(9) }];
    assert_closing(&mut map, Closing::Unshare, &steps);
}

#[test]
fn a_table_of_its_own_without_gaps_has_nothing_to_mark() {
    let unshare = [Step::Unshare { first: 2 }];
    assert_closing(&mut map(&[(0, 0), (1, 1), (2, 1)]), Closing::Unshare, &unshare);
    assert_closing(&mut map(&[]), Closing::Unshare, &[Step::Unshare { first: 0 }]);
}

#[test]
fn marking_begins_above_the_targets_that_leave_no_gap() {
    for (entries, first) in [(&[(0, 5), (1, 5)][..], 2), (&[(0, 5), (2, 5)], 1), (&[(1, 5)], 0)] {
        let steps = [Step::MarkRange { first, last: None }];
        assert_closing(&mut map(entries), Closing::Range, &steps);
        assert_closing(&mut map(entries), Closing::Listed, &[Step::MarkListed { first }]);
        let each = Closing::Each { below: 64 };
        assert_closing(&mut map(entries), each, &[Step::MarkEach { first, below: 64 }]);
    }
}

#[test]
fn marking_each_below_the_first_unnamed_number_is_no_step() {
    for below in [-1, 0, 2] {
        assert_closing(&mut map(&[(0, 5), (1, 5)]), Closing::Each { below }, &[]);
    }
}

#[test]
fn a_kept_fd_above_those_that_are_marked_each_is_marked_alone() {
    let mut map = map(&[(0, 5)]);
    map.keep(6).unwrap().keep(7).unwrap().closing(Closing::Each { below: 7 });
    assert_moves(&mut map, &[mark(7), dup2(5, 0)]);
}
