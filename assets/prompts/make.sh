#!/bin/sh
# Makes the shipped prompts: 16-bit mono 16 kHz WAV. Needs espeak-ng and sox (both in Debian).
# The files are committed, so a build needs neither; run this after changing a text below.
set -eu
cd "$(dirname "$0")"

rate=16000
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# speak LANGUAGE VOICE NAME TEXT: spoken, trimmed at both ends, -4 dBFS peak, soft edges.
speak() {
    mkdir -p "$1"
    espeak-ng -v "$2" -s 150 -a 140 -w "$scratch/spoken.wav" "$4"
    sox -D "$scratch/spoken.wav" -b 16 -c 1 "$scratch/trimmed.wav" \
        silence 1 0.02 0.5% reverse silence 1 0.02 0.5% reverse highpass 120 rate -h "$rate"
    sox -D "$scratch/trimmed.wav" "$1/$3.wav" norm -4 fade q 0.01 -0 0.02 pad 0.02 0.04
}

# hold LANGUAGE: two soft notes in turn, our own; every note begins and ends in silence, so the loop has no seam.
hold() {
    mkdir -p "$1"
    for note in 392.00 523.25; do
        sox -D -n -r "$rate" -b 16 -c 1 "$scratch/$note.wav" \
            synth 1.2 sine "$note" synth 1.2 sine mix "$(echo "$note 2" | awk '{ print $1 * $2 }')" \
            gain -8 fade q 0.15 1.2 0.9 pad 0 0.3
    done
    sox -D "$scratch/392.00.wav" "$scratch/523.25.wav" "$scratch/392.00.wav" "$scratch/392.00.wav" \
        "$1/hold.wav" norm -18
}

speak en en-us recorded 'This call is recorded.'
hold en
