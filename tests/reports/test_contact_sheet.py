import numpy as np

from hyperface_jax.reports.contact_sheet import GAP, contact_sheet

FACE = np.zeros((8, 8, 3), np.uint8)


def test_each_row_has_its_label_to_the_left_of_unchanged_images():
    rows = [[FACE, None], [FACE, FACE], [FACE, FACE]]
    plain = contact_sheet(rows, tile=40)
    sheet = contact_sheet(rows, tile=40, labels=["7", "", "123456"])
    width = sheet.shape[1] - plain.shape[1]
    np.testing.assert_array_equal(sheet[:, width:], plain)
    bands = [sheet[GAP + i * 42 : (i + 1) * 42, :width] for i in range(3)]
    ink = [int((band < 128).sum()) for band in bands]
    assert ink[1] == 0 < ink[0] < ink[2]
    assert all((band[:, -1] == 255).all() and (band[:, 0] == 255).all() for band in bands)


def test_letters_can_be_read_on_small_tiles():
    sheet = contact_sheet([[FACE]], tile=32, labels=["0"])
    dark = np.flatnonzero((sheet[:, : -(32 + 2 * GAP)] < 128).any(axis=(1, 2)))
    assert np.ptp(dark) + 1 >= 7
