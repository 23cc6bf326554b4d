//! F-06 on the wire: extreme numbers in every place of every layout neither panic nor wrap, and
//! what is still accepted reads the same when written again.

use super::layouts;

#[test]
fn f_06_extreme_numbers_in_every_place() {
    let mut n_accepted = 0_u32;
    for layout in layouts::all() {
        for width in [1, 2, 4, 8] {
            for place in 0..=layout.sample.len() - width {
                for fill in extremes(width) {
                    let mut bytes = layout.sample.clone();
                    bytes[place..place + width].copy_from_slice(&fill);
                    if let Ok(again) = (layout.again)(&bytes) {
                        n_accepted += 1;
                        assert_eq!(again, bytes, "{} at {place}", layout.name);
                    }
                }
            }
        }
    }
    // Payload bytes and free numbers may be anything: a test that accepts nothing would test
    // nothing.
    assert!(n_accepted > 100, "{n_accepted}");
}

fn extremes(width: usize) -> [Vec<u8>; 5] {
    let max = vec![0xff; width];
    let mut below_max = max.clone();
    below_max[0] = 0xfe;
    let mut one = vec![0; width];
    one[0] = 1;
    let mut half = vec![0; width];
    half[width - 1] = 0x80;
    [vec![0; width], one, half, below_max, max]
}
