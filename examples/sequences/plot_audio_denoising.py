"""
Audio denoising on spectrograms
===============================

Learn how to choose the noise to train with. A denoising autoencoder is trained to
reconstruct clean rows from corrupted ones. Here the rows are short segments of a
spectrogram, and the question is which corruption in training is needed to remove
realistic noise. The results are compared with spectral subtraction and the Wiener
filter, which need a recording of the noise alone, and with PCA.
"""

# %%
# Sounds and noise
# ----------------
#
# All sounds are *synthesised*, at 8000 samples per second, from known physics: harmonic
# tones; plucked strings, by the algorithm of Karplus & Strong (1983); and vowels, a
# train of glottal pulses through three resonances, with the formants of Peterson &
# Barney (1952). A clip is a quarter of a second of silence followed by four notes of
# one kind.

import numpy as np
import pandas as pd
from scipy.signal import ShortTimeFFT, lfilter
from scipy.signal.windows import hann

RATE, LEAD, NOTE, N_SAMPLES = 8000, 2000, 2000, 10_000
FORMANTS = {
    "i": (270, 2290, 3010),
    "ae": (660, 1720, 2410),
    "a": (730, 1090, 2440),
    "u": (300, 870, 2240),
    "er": (490, 1350, 1690),
}
rng = np.random.default_rng(0)
time = np.arange(NOTE) / RATE
whole_time = np.arange(N_SAMPLES) / RATE


def sines(time, frequency, amplitudes):
    """Return a sum of harmonics with random phases."""
    order = np.arange(1, len(amplitudes) + 1)[:, np.newaxis]
    phases = rng.uniform(0, 2 * np.pi, order.shape)
    return amplitudes @ np.sin(2 * np.pi * frequency * order * time + phases)


def harmonic_tone(pitch):
    order = np.arange(1, int(3800 / pitch) + 1)
    decay = np.exp(-time / rng.uniform(0.2, 1))
    return decay * sines(time, pitch, order ** -rng.uniform(0.8, 2))


def plucked_string(pitch):
    burst, period = np.zeros(NOTE), int(RATE / pitch)
    burst[:period] = rng.uniform(-1, 1, period)
    loop = np.zeros(period + 2)
    loop[0], loop[period:] = 1, -0.998 / 2  # feedback: mean of two neighbours
    return lfilter([1], loop, burst)


def vowel(pitch):
    vibrato = pitch * (1 + 0.02 * np.sin(2 * np.pi * 5 * time))
    sound = np.diff(np.floor(np.cumsum(vibrato) / RATE), prepend=0)
    sound = lfilter([1, -1], [1, -1.8, 0.81], sound)  # glottis and lips
    formants = rng.choice(list(FORMANTS.values())) * rng.uniform(0.9, 1.15)
    for centre, bandwidth in zip(formants, (60, 90, 150), strict=True):
        radius = np.exp(-np.pi * bandwidth / RATE)
        angle = 2 * np.pi * centre / RATE
        sound = lfilter(
            [1 - radius], [1, -2 * radius * np.cos(angle), radius**2], sound
        )
    return sound


def clip():
    """Return silence and four notes, of mean power one."""
    instrument = (harmonic_tone, plucked_string, vowel)[rng.integers(3)]
    lowest = rng.uniform(90, 300)
    notes = []
    for semitones in rng.integers(12, size=(N_SAMPLES - LEAD) // NOTE):
        note = instrument(lowest * 2 ** (semitones / 12))
        note *= np.minimum(1, np.minimum(time, time[-1] - time) / 0.02)
        notes.append(note / np.sqrt(np.mean(note**2)))
    return np.concatenate([np.zeros(LEAD), *notes])


# %%
# There are five kinds of noise. White noise has equal power at all frequencies, the
# power of pink noise decreases with the frequency, that of brown noise with its square.
# Mains hum is 50 Hz with its harmonics, and clicks occur 25 times a second, at random.


def coloured(exponent):
    spectrum = np.fft.rfft(rng.normal(size=N_SAMPLES))
    frequency = np.fft.rfftfreq(N_SAMPLES, 1 / RATE)
    return np.fft.irfft(spectrum * np.maximum(frequency, 20) ** (-exponent / 2))


def hum():
    amplitudes = rng.uniform(0.3, 1, 15) / np.arange(1, 16)
    return sines(whole_time, 50 * rng.uniform(0.998, 1.002), amplitudes)


def clicks():
    where = rng.uniform(size=N_SAMPLES) < 25 / RATE
    return lfilter([1], [1, -0.5], where * rng.laplace(size=N_SAMPLES))


SHAPES = {
    "white": lambda: coloured(0),
    "pink": lambda: coloured(1),
    "brown": lambda: coloured(2),
    "hum": hum,
    "clicks": clicks,
}


def noise(kind):
    """Return noise of mean power one."""
    sound = SHAPES[kind]()
    return sound / np.sqrt(np.mean(sound[LEAD:] ** 2))


# %%
# Rows
# ----
#
# A spectrogram with windows of 32 ms, every 16 ms. A row is three consecutive frames,
# as square roots of the magnitudes: 387 numbers. Without the roots the few loudest
# entries would dominate. Every frame is part of three rows, and their reconstructions
# are averaged. The phase of the noisy sound is kept.

spectrogram = ShortTimeFFT(hann(256, sym=False), 128, RATE)
SIDES = (-1, 0, 1)


def to_rows(stft):
    frames = np.sqrt(np.abs(stft)).T.astype(np.float32)
    padded = np.pad(frames, ((1, 1), (0, 0)), mode="edge")
    return np.hstack([padded[1 + side : 1 + side + len(frames)] for side in SIDES])


def to_magnitude(rows):
    parts = np.split(rows, len(SIDES), axis=1)
    # np.roll is wrong at both ends, which are silent.
    shifted = [np.roll(part, s, axis=0) for part, s in zip(parts, SIDES, strict=True)]
    return np.maximum(np.mean(shifted, axis=0), 0).T ** 2


train = np.vstack([to_rows(spectrogram.stft(clip())) for _ in range(80)])
test_clips = [clip() for _ in range(20)]
print(f"{train.shape[0]} rows of {train.shape[1]} numbers to train on")

# %%
# The corruption
# --------------
#
# :class:`~skae.corruptions.Gaussian` adds noise of both signs to the rows. Noise in a
# sound affects a spectrogram differently: it nearly always increases magnitudes, it is
# never negative, and it has a characteristic spectrum. A custom corruption of a few
# lines does this. It draws a row of recorded noise, a level, and a phase for every
# entry, and adds the magnitudes as complex numbers: the squared magnitude of the sum of
# two numbers with magnitudes ``s`` and ``n`` and phase difference ``phase`` is
# ``s**2 + n**2 + 2 * s * n * cos(phase)``.

import torch
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer
from skae.architectures import MLP
from skae.corruptions import Corruption, Gaussian


class AddedNoise(Corruption):
    """Add spectrograms of noise, of -6 to 10 dB below a sound of power one."""

    def __init__(self, noise_rows):
        self.noise_rows = noise_rows

    def draw(self, shape, generator):
        how = {"generator": generator, "device": generator.device}
        row = torch.randint(len(self.noise_rows), shape[:1], **how)
        return row, torch.rand(shape[0], 1, **how), torch.rand(shape, **how)

    def __call__(self, x, draw):
        row, level, turn = draw
        noise = torch.as_tensor(self.noise_rows).to(x)[row].square()
        noise = noise * (0.3 + 1.7 * level)
        sound = x.square()
        product = 2 * sound * noise * torch.cos(2 * torch.pi * turn)
        power = sound.square() + noise.square() + product
        return power.clamp(min=0) ** 0.25


def noise_rows(kinds):
    return np.vstack([to_rows(spectrogram.stft(noise(k))) for k in kinds * 20])


def denoiser(corruption, scaling):
    return AutoencoderTransformer(
        64,
        architecture=MLP((256,)),
        corruption=corruption,
        scaling=scaling,
        max_epochs=20,
        early_stopping=False,  # neighbouring rows share frames
        random_state=0,
    )


models = {
    "PCA": PCA(64, random_state=0),
    "skae, Gaussian": denoiser(Gaussian(0.5), "auto"),
    "skae, white": denoiser(AddedNoise(noise_rows(["white"])), None),
    "skae, all kinds": denoiser(AddedNoise(noise_rows(list(SHAPES))), None),
}
for model in models.values():
    model.fit(train)

# %%
# Classical filters
# -----------------
#
# Both estimate the power of the noise in the silence at the beginning, and assume that
# it does not change: spectral subtraction (Boll 1979) subtracts it; the Wiener filter
# with the decision-directed estimate of Ephraim & Malah (1984) also uses the previous
# frame. The models do not use the silence.


def noise_power(stft):
    return np.mean(np.abs(stft[:, 2:15]) ** 2, axis=1) + 1e-9


def spectral_subtraction(stft):
    power = np.abs(stft) ** 2
    return np.sqrt(np.maximum(power - noise_power(stft)[:, np.newaxis], 0.01 * power))


def wiener(stft):
    magnitude, noise = np.abs(stft), noise_power(stft)
    estimates, before = [], np.zeros(len(noise))
    for frame in magnitude.T:
        ratio = 0.98 * before**2 + 0.02 * np.maximum(frame**2 - noise, 0)
        ratio = np.maximum(ratio / noise, 0.003)
        before = frame * ratio / (1 + ratio)
        estimates.append(before)
    return np.transpose(estimates)


def by_model(model):
    def estimate(stft):
        code = model.transform(to_rows(stft))
        return to_magnitude(model.inverse_transform(code))

    return estimate


methods = {"subtraction": spectral_subtraction, "Wiener": wiener}
methods |= {name: by_model(model) for name, model in models.items()}

# %%
# Signal-to-noise ratio
# ---------------------
#
# Twenty new clips, each with new noise of every kind. No method may increase an entry
# of the spectrogram. The measure is the gain in the signal-to-noise ratio of the
# waveform, in decibels, without the silence. The last column is a bound that no method
# of this kind can exceed by much: the magnitudes of the clean sound with the phase of
# the noisy one.


def ratio(clean, sound):
    clean, sound = clean[LEAD:], sound[LEAD:]
    return 10 * np.log10(np.sum(clean**2) / np.sum((sound - clean) ** 2))


def resynthesise(stft, magnitude):
    gain = np.minimum(magnitude / np.maximum(np.abs(stft), 1e-9), 1)
    return spectrogram.istft(gain * stft, k1=N_SAMPLES)


def gains(clean, kind, level):
    """Return the gain of each method for a clip with noise ``level`` dB below it."""
    noisy = clean + 10 ** (-level / 20) * noise(kind)
    stft = spectrogram.stft(noisy)
    magnitudes = {name: method(stft) for name, method in methods.items()}
    magnitudes["clean magnitude"] = np.abs(spectrogram.stft(clean))
    sounds = {name: resynthesise(stft, each) for name, each in magnitudes.items()}
    gain = {name: ratio(clean, s) - ratio(clean, noisy) for name, s in sounds.items()}
    return {"noise": kind, "level": level} | gain


results = pd.DataFrame(
    gains(clean, kind, level)
    for kind in SHAPES
    for level in (0, 5, 10, 20)
    for clean in test_clips
)
by_kind = results[results["level"] == 5].drop(columns="level")
by_kind = by_kind.groupby("noise", sort=False).mean()
by_level = results.drop(columns="noise").groupby("level").mean()
print("Gain in dB, noise 5 dB below the sound")
print(by_kind.to_string(float_format="{:.1f}".format))
print("\nGain in dB, mean over the kinds, by input signal-to-noise ratio")
print(by_level.to_string(float_format="{:.1f}".format))

# %%
# The corruption in training determines what the model can remove. With ``Gaussian`` it
# is no better than PCA. Trained with white noise, it removes white noise, and also
# clicks, which have equal power at all frequencies too. Trained with all kinds, it is
# clearly better on clicks, which are too short for a filter that estimates the noise in
# advance. It is worse than the Wiener filter on noise that stays as it was in the
# silence, most of all if this is concentrated in a few frequency bands: brown noise and
# hum. The model is not told which kind of noise is present. Averaged over all kinds it
# is better if the noise is as loud as the sound, and worse if there is less noise.
#
# It has four limitations. It does not leave a clean sound unchanged: everything passes
# through a code of 64 numbers, and with little noise the result is worse than the
# input. It is limited to the sounds of the training; for speech or an orchestra it
# would have to be trained on those. It cannot determine how loud the sound should be;
# all clips have the same power before the noise is added. And it cannot correct the
# phase, which sets the limit in the last column.
#
# Plot
# ----
#
# The first test clip, with clicks and with hum 5 dB below the sound. Spectrograms are
# in decibels below the loudest entry of the clean sound; the titles contain the
# signal-to-noise ratio.

import matplotlib.pyplot as plt

plt.rcParams["axes.titlesize"] = "medium"
COLOURS = {
    "subtraction": "#c9ced6",
    "Wiener": "#30638e",
    "PCA": "#8a8f98",
    "skae, Gaussian": "#f3c9ce",
    "skae, white": "#edae49",
    "skae, all kinds": "#d1495b",
}

clean = test_clips[0]
loudest = np.abs(spectrogram.stft(clean)).max()
figure, grid = plt.subplots(
    2, 4, figsize=(11, 5), sharex=True, sharey=True, layout="constrained"
)
for axes, kind in zip(grid, ("clicks", "hum"), strict=True):
    noisy = clean + 10 ** (-5 / 20) * noise(kind)
    stft = spectrogram.stft(noisy)
    sounds = {"clean": clean, f"with {kind}": noisy}
    for name in ("Wiener", "skae, all kinds"):
        sounds[name] = resynthesise(stft, methods[name](stft))
    for ax, (name, sound) in zip(axes, sounds.items(), strict=True):
        power = np.abs(spectrogram.stft(sound)) / loudest
        image = ax.imshow(
            20 * np.log10(np.maximum(power, 1e-4)),
            extent=spectrogram.extent(N_SAMPLES),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-60,
            vmax=0,
        )
        if name != "clean":
            name += f", {ratio(clean, sound):.1f} dB"
        ax.set(title=name, xlim=(0, N_SAMPLES / RATE), ylim=(0, RATE / 2))
    axes[0].set(ylabel="Hz")
for ax in grid[1]:
    ax.set(xlabel="seconds")
figure.colorbar(image, ax=grid, label="dB", pad=0.01, aspect=40)
plt.show()

# %%
# The gain by kind of noise, and by level. Below the line the sound is worse than
# before.

figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 3.8), width_ratios=[1.7, 1], layout="constrained"
)
by_kind[list(COLOURS)].plot.bar(ax=left, color=COLOURS, width=0.8, rot=0, legend=False)
marks = by_kind["clean magnitude"]
left.hlines(
    marks,
    np.arange(len(marks)) - 0.4,
    np.arange(len(marks)) + 0.4,
    color="#22223b",
    label="clean magnitude",
)
left.set(xlabel="", ylabel="gain, dB", title="input signal-to-noise ratio 5 dB")
for name, colour in COLOURS.items():
    right.plot(by_level.index, by_level[name], color=colour, marker="o", label=name)
right.axhline(0, color="#22223b", lw=1)
right.set(
    xlabel="input signal-to-noise ratio, dB",
    title="mean over kinds of noise",
    xticks=by_level.index,
)
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
figure.legend(
    *left.get_legend_handles_labels(),
    ncols=7,
    loc="outside lower center",
    frameon=False,
    fontsize="small",
)
plt.show()
