#!/usr/bin/env bash
# Installs the packages of the operating system that tests use: an RTSP server, an MQTT broker, a browser.
# Only as root or with password-free sudo, and only where apt is; otherwise names what is skipped.
set -u
packages=(
    python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
    gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
    mosquitto openssl chromium fonts-dejavu-core
)

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

skip() {
    echo "skipped, $1: ${missing[*]} (tests that need them will say so)"
    exit 0
}
command -v apt-get >/dev/null || skip "no apt-get here"
sudo=()
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || skip "neither root nor password-free sudo"
    sudo=(sudo -n)
fi
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq || skip "apt-get update failed"
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || skip "apt-get install failed"
