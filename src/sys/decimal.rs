//! Numbers as digits and back, for the child: no formatting, no slices.

/// Writes a number as decimal digits and a NUL: eleven bytes at most.
///
/// # Safety
///
/// Eleven bytes at `to` may be written.
#[inline]
pub(crate) unsafe fn write(mut number: u32, to: *mut u8) {
    let mut divisor: u32 = 1_000_000_000;
    let mut at = to;
    let mut begun = false;
    while divisor > 0 {
        let digit = (number / divisor) as u8;
        number %= divisor;
        begun |= digit > 0 || divisor == 1;
        if begun {
            // SAFETY: one of ten divisors a time, so of ten bytes at most.
            unsafe {
                at.write(b'0' + digit);
                at = at.add(1);
            }
        }
        divisor /= 10;
    }
    // SAFETY: after ten bytes at most, so the eleventh at most.
    unsafe { at.write(0) };
}

/// The number that a NUL-terminated name spells; `None` if it spells none.
///
/// # Safety
///
/// `name` is NUL-terminated.
#[cfg(raw_syscalls)]
#[inline]
pub(crate) unsafe fn read(mut name: *const u8) -> Option<i32> {
    let mut number: i32 = 0;
    loop {
        // SAFETY: not past the NUL, at which the loop ends.
        let byte = unsafe { name.read() };
        match byte {
            0 => return Some(number),
            b'0'..=b'9' => {
                number = number.wrapping_mul(10).wrapping_add(i32::from(byte & 0xf));
            }
            _ => return None,
        }
        // SAFETY: the byte just read was not the NUL, so there is a next one.
        name = unsafe { name.add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ffi::CStr;

    #[test]
    fn a_number_is_written_in_its_digits_and_ended() {
        for (number, digits) in
            [(0, "0"), (7, "7"), (10, "10"), (32768, "32768"), (u32::MAX, "4294967295")]
        {
            let mut bytes = [0xffu8; 11];
            // SAFETY: eleven bytes.
            unsafe { write(number, bytes.as_mut_ptr()) };
            assert_eq!(CStr::from_bytes_until_nul(&bytes).unwrap().to_str(), Ok(digits));
        }
    }

    #[cfg(raw_syscalls)]
    #[test]
    fn a_name_that_is_no_number_is_none() {
        for (name, number) in [(c"12", Some(12)), (c"0", Some(0)), (c".", None), (c"..", None)] {
            // SAFETY: NUL-terminated.
            assert_eq!(unsafe { read(name.as_ptr().cast()) }, number);
        }
    }
}
