//! Linux plays and records.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use tearless_image::{Flavour, QuickOptions};

use crate::{guest::Guest, tool::Tool};

/// One channel of 16-bit samples at 8 kHz, which is what Linux' older sound device has unless it is asked for more; but for
/// their width.
const SPEC: WavSpec =
    WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: SampleFormat::Int };

#[test]
fn what_linux_plays_is_in_the_file_and_what_is_in_the_file_it_hears() {
    let tool = Tool::new();
    let (played, said) = (tool.home().join("played.wav"), tool.home().join("said.wav"));
    // A second, as bytes and as wider samples.
    let sound: Vec<u8> = (0..8000u32).map(|i| (i * i / 31 % 251) as u8).collect();
    let wide: Vec<i16> = sound.iter().map(|byte| (i16::from(*byte) - 128) << 8).collect();
    let mut writer = WavWriter::create(&said, SPEC).unwrap();
    wide.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
    writer.finalize().unwrap();

    let kernel = QuickOptions {
        flavour: Flavour::Generic,
        extra_modules: ["virtio_snd", "snd_pcm_oss"].map(str::to_owned).into(),
        ..QuickOptions::default()
    };
    let ends = [&played, &said].map(|path| format!("wav:{}", path.display()));
    let Guest(tool) = &Guest::with_kernel(tool, &kernel, &["--sound", &ends[0], "--microphone", &ends[1]]);
    let info = tool.succeeds(&["info", "g"]).stdout;
    assert!(info.contains(&format!("Sound    {}, hears {}", ends[0], ends[1])), "{info}");

    let script = "time -p sh -c 'cat > /dev/dsp; true'";
    let outcome = tool.run_with_input(&["exec", "g", "--", "sh", "-c", script], &sound);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    let real = outcome.stderr.lines().find_map(|line| line.strip_prefix("real ")?.parse::<f64>().ok());
    assert!(real.is_some_and(|seconds| seconds >= 0.99), "it takes its time: {}", outcome.stderr);
    let mut reader = WavReader::open(&played).unwrap();
    assert_eq!(reader.spec(), SPEC);
    let heard: Vec<i16> = reader.samples().map(Result::unwrap).collect();
    let (heard, rest) = heard.split_at_checked(wide.len()).unwrap();
    assert!(heard == wide, "it is what was played");
    assert!(rest.len() < 8000 && rest.iter().all(|sample| *sample == 0), "{} more", rest.len());

    let script = "head -c 8000 /dev/dsp | base64 | tr -d '\\n'";
    let outcome = tool.succeeds(&["exec", "g", "--", "sh", "-c", script]);
    let said = BASE64_STANDARD.decode(outcome.stdout.trim()).unwrap();
    assert!(said == sound, "it is what was said");
}
