//! Pictures as files.

use crate::Size;

/// Why a picture cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode a picture: {0}")]
pub struct PictureError(#[from] png::EncodingError);

/// A PNG file of `pixels`, `0x00RRGGBB`, row by row.
///
/// # Errors
/// When there are not as many pixels as `size` says, or none.
pub fn png(size: Size, pixels: &[u32]) -> Result<Vec<u8>, PictureError> {
    encode(size, pixels, png::Compression::Balanced)
}

/// As [`png()`], larger and sooner.
///
/// # Errors
/// As [`png()`].
pub(crate) fn quick_png(size: Size, pixels: &[u32]) -> Result<Vec<u8>, PictureError> {
    encode(size, pixels, png::Compression::Fast)
}

fn encode(size: Size, pixels: &[u32], compression: png::Compression) -> Result<Vec<u8>, PictureError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size.width, size.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(compression);
    let bytes: Vec<u8> = pixels
        .iter()
        .flat_map(|pixel| {
            let [_, red, green, blue] = pixel.to_be_bytes();
            [red, green, blue]
        })
        .collect();
    encoder.write_header()?.write_image_data(&bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_can_be_read_back() {
        let file = png(Size::new(2, 1), &[0x112233, 0xfedcba]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut bytes = [0; 6];
        reader.next_frame(&mut bytes).unwrap();
        assert_eq!(bytes, [0x11, 0x22, 0x33, 0xfe, 0xdc, 0xba]);
        assert!(png(Size::new(2, 2), &[0]).is_err());
    }
}
