# For a tap: brew install --HEAD OWNER/TAP/tearless. A release adds `url` and `sha256`.
class Tearless < Formula
  desc "macOS and Linux virtual machines without tears"
  homepage "https://github.com/tearless/tearless"
  license any_of: ["MIT", "Apache-2.0"]
  head "https://github.com/tearless/tearless.git", branch: "main"

  depends_on "rustup" => :build
  depends_on macos: :ventura

  def install
    # The guest agent, a Linux program, is a part of this one.
    system "rustup", "target", "add", "aarch64-unknown-linux-musl"
    system "cargo", "install", *std_cargo_args(path: "crates/cli")
    system "codesign", "--force", "--sign", "-",
           "--entitlements", "tools/macbuild/entitlements.plist", bin/"tearless"
    generate_completions_from_executable(bin/"tearless", "completions")
  end

  test do
    assert_match "vz", shell_output("#{bin}/tearless doctor --json")
  end
end
