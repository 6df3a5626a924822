//! Where a program is looked for, worked out before the fork.

/// What is searched if the child's environment has no `PATH`: what glibc and
/// musl fall back on, without the current directory.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// The paths at which `program` is tried, in their order, each in two parts to
/// be written one after the other.
///
/// A name with a `/` is tried as it stands, from the child's directory. Any
/// other name is tried in each element of `path`, the child's `PATH`. Empty
/// elements, which POSIX reads as the current directory, are passed over: no
/// program is run from the current directory unless somebody wrote so. So are those
/// of `too_long` bytes or more, which no path can have: an error of theirs would
/// end the search.
pub(crate) fn candidates<'a>(
    program: &'a [u8],
    path: Option<&'a [u8]>,
    too_long: usize,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let as_it_stands = program.contains(&b'/');
    let directories = if as_it_stands { b"" } else { path.unwrap_or(DEFAULT_PATH) };
    let searched = directories
        .split(|&byte| byte == b':')
        .filter(move |dir| (1..too_long).contains(&dir.len()));
    as_it_stands
        .then_some(b"".as_slice())
        .into_iter()
        .chain(searched)
        .map(move |dir| (dir, program))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::candidates;
    use std::string::String;
    use std::vec::Vec;

    fn all(program: &str, path: Option<&str>) -> Vec<String> {
        let found = candidates(program.as_bytes(), path.map(str::as_bytes), 10);
        found
            .map(|(dir, name)| {
                let slash = if dir.is_empty() { "" } else { "/" };
                String::from_utf8_lossy(dir).into_owned() + slash + &String::from_utf8_lossy(name)
            })
            .collect()
    }

    #[test]
    fn a_name_is_tried_in_each_directory_in_order() {
        assert_eq!(all("wc", Some("/b:/a:/b")), ["/b/wc", "/a/wc", "/b/wc"]);
    }

    #[test]
    fn a_name_with_a_slash_is_tried_as_it_stands() {
        assert_eq!(all("./wc", Some("/a")), ["./wc"]);
        assert_eq!(all("x/wc", None), ["x/wc"]);
        assert_eq!(all("/x/wc", None), ["/x/wc"]);
    }

    #[test]
    fn without_a_path_the_default_is_searched() {
        assert_eq!(all("wc", None), ["/bin/wc", "/usr/bin/wc"]);
    }

    #[test]
    fn empty_elements_never_mean_the_current_directory() {
        assert_eq!(all("wc", Some(":/a::/b:")), ["/a/wc", "/b/wc"]);
        assert!(all("wc", Some("")).is_empty());
        assert!(all("wc", Some("::")).is_empty());
    }

    #[test]
    fn elements_that_no_path_can_have_are_passed_over() {
        assert_eq!(all("wc", Some("/12345678:/123456789:/a")), ["/12345678/wc", "/a/wc"]);
        assert_eq!(all("/123456789/wc", Some("/a")), ["/123456789/wc"]);
    }

    #[test]
    fn a_relative_element_stays_relative_to_the_childs_directory() {
        assert_eq!(all("wc", Some("bin:.")), ["bin/wc", "./wc"]);
    }
}
