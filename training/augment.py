"""Augmentation on the GPU: RGBA pictures in, normalised RGB training images out."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)


def _uniform(n: int, low: float, high: float, device: torch.device) -> torch.Tensor:
    return torch.rand(n, device=device) * (high - low) + low


def _chance(n: int, p: float, device: torch.device) -> torch.Tensor:
    return torch.rand(n, device=device) < p


def _pick(mask: torch.Tensor, yes: torch.Tensor, no: torch.Tensor) -> torch.Tensor:
    return torch.where(mask.view(-1, 1, 1, 1), yes, no)


def luminance(rgb: torch.Tensor) -> torch.Tensor:
    """Luma of (n, 3, h, w) as (n, 1, h, w)."""
    return (rgb * rgb.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def place(rgba: torch.Tensor, size: int, flip: torch.Tensor) -> torch.Tensor:
    """Scale, turn, shear and move premultiplied pictures (n, 4, h, w) into a frame of size x size."""
    n, device = rgba.shape[0], rgba.device
    scale = torch.where(_chance(n, 0.75, device), _uniform(n, 0.72, 1.08, device), _uniform(n, 0.38, 0.8, device))
    aspect = torch.exp(_uniform(n, -0.14, 0.14, device))
    angle = torch.where(_chance(n, 0.8, device), _uniform(n, -12, 12, device), _uniform(n, -35, 35, device))
    angle = angle * (math.pi / 180)
    shear = _uniform(n, -0.12, 0.12, device)
    mirror = torch.where(flip & _chance(n, 0.5, device), -1.0, 1.0)
    room = (1.05 - scale).clamp_min(0.06)
    tx, ty = _uniform(n, -1, 1, device) * room, _uniform(n, -1, 1, device) * room
    cos, sin = torch.cos(angle), torch.sin(angle)
    sx, sy = mirror / (scale * aspect), aspect / scale
    a, b = cos * sx, (sin + shear) * sx
    c, d = -sin * sy, cos * sy
    theta = torch.stack([a, b, -(a * tx + b * ty), c, d, -(c * tx + d * ty)], 1).view(n, 2, 3)
    grid = F.affine_grid(theta, [n, 4, size, size], align_corners=False)
    small = F.interpolate(F.avg_pool2d(rgba, 2), size=rgba.shape[-2:], mode="bilinear", align_corners=False)
    rgba = _pick(scale < 0.6, small, rgba)
    return F.grid_sample(rgba, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def recolour(rgb: torch.Tensor, hue_free: torch.Tensor) -> torch.Tensor:
    """Hue, saturation, brightness and contrast of (n, 3, h, w) in [0, 1]; hue only where it is free."""
    n, device = rgb.shape[0], rgb.device
    turn = torch.where(_chance(n, 0.35, device), _uniform(n, -1.2, 1.2, device), _uniform(n, -0.12, 0.12, device))
    turn = torch.where(hue_free, turn, turn.clamp(-0.08, 0.08))
    cos, sin = torch.cos(turn), torch.sin(turn)
    saturation = _uniform(n, 0.55, 1.35, device)
    saturation = torch.where(hue_free & _chance(n, 0.12, device), torch.zeros_like(saturation), saturation)
    to_yiq = rgb.new_tensor([LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
    yiq = torch.einsum("ij,njhw->nihw", to_yiq, rgb)
    i, q = yiq[:, 1], yiq[:, 2]
    cos, sin, sat = (v.view(-1, 1, 1) for v in (cos, sin, saturation))
    yiq = torch.stack([yiq[:, 0], sat * (cos * i - sin * q), sat * (sin * i + cos * q)], 1)
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_yiq), yiq)
    contrast = _uniform(n, 0.75, 1.25, device).view(-1, 1, 1, 1)
    brightness = _uniform(n, -0.12, 0.12, device).view(-1, 1, 1, 1)
    return ((rgb - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)


def backgrounds(n: int, size: int, device: torch.device) -> torch.Tensor:
    """Backgrounds (n, 3, size, size): white, plain, gradients and soft textures."""
    kind = torch.rand(n, device=device)
    plain = torch.rand(n, 3, 1, 1, device=device).expand(n, 3, size, size)
    light = 1 - 0.2 * torch.rand(n, 3, 1, 1, device=device).expand(n, 3, size, size)
    corners = F.interpolate(
        torch.rand(n, 3, 2, 2, device=device), size=(size, size), mode="bilinear", align_corners=True
    )
    coarse = F.interpolate(
        torch.rand(n, 3, 9, 9, device=device), size=(size, size), mode="bicubic", align_corners=False
    )
    fine = torch.rand(n, 1, size, size, device=device) - 0.5
    texture = (0.55 * coarse + 0.45 * plain + 0.25 * fine).clamp(0, 1)
    out = torch.ones(n, 3, size, size, device=device)
    out = _pick(kind > 0.42, light, out)
    out = _pick(kind > 0.58, plain, out)
    out = _pick(kind > 0.78, corners, out)
    out = _pick(kind > 0.88, texture, out)
    return _pick(_chance(n, 0.05, device), torch.zeros_like(out), out)


def outlines(rgb: torch.Tensor, alpha: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Dark strokes along the edges of premultiplied pictures: (rgb with strokes, alpha, strokes alone)."""
    stack = torch.cat([rgb, alpha], 1)
    soft = F.avg_pool2d(stack, 3, 1, 1)
    dx = (soft[..., :, 2:] - soft[..., :, :-2]).abs().amax(1, keepdim=True)
    dy = (soft[..., 2:, :] - soft[..., :-2, :]).abs().amax(1, keepdim=True)
    edge = F.pad(dx, (1, 1, 0, 0)) + F.pad(dy, (0, 0, 1, 1))
    stroke = F.max_pool2d(((edge - 0.28) * 6).clamp(0, 1), 3, 1, 1)
    return rgb * (1 - stroke), torch.maximum(alpha, stroke), stroke


def _dct_basis(device: torch.device) -> torch.Tensor:
    k = torch.arange(8, device=device, dtype=torch.float32)
    basis = torch.cos((2 * k.view(1, 8) + 1) * k.view(8, 1) * math.pi / 16) * 0.5
    basis[0] *= math.sqrt(0.5)
    return basis


def jpeg(rgb: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """JPEG's loss: 8x8 DCT of the image, coefficients rounded to steps that grow with frequency and strength."""
    n, _, h, w = rgb.shape
    ph, pw = -h % 8, -w % 8
    x = F.pad(rgb, (0, pw, 0, ph), mode="replicate")
    basis = _dct_basis(rgb.device)
    blocks = x.unfold(2, 8, 8).unfold(3, 8, 8)
    coefficients = torch.einsum("ij,nchwjk,lk->nchwil", basis, blocks, basis)
    frequency = torch.arange(8, device=rgb.device, dtype=torch.float32)
    step = (1 + frequency.view(8, 1) + frequency.view(1, 8)) * 0.012
    step = step * strength.view(-1, 1, 1, 1, 1, 1)
    coefficients = torch.round(coefficients / step) * step
    blocks = torch.einsum("ji,nchwjk,kl->nchwil", basis, coefficients, basis)
    x = blocks.permute(0, 1, 2, 4, 3, 5).reshape(n, 3, h + ph, w + pw)
    return x[..., :h, :w].clamp(0, 1)


def normalise(rgb: torch.Tensor) -> torch.Tensor:
    """ImageNet's mean and deviation, as InternVL's processor does."""
    return (rgb - rgb.new_tensor(MEAN).view(1, 3, 1, 1)) / rgb.new_tensor(STD).view(1, 3, 1, 1)


def augment(
    rgba: torch.Tensor, size: int, flip: torch.Tensor, hue_free: torch.Tensor, ink: torch.Tensor
) -> torch.Tensor:
    """Training images (n, 3, size, size) from RGBA uint8 pictures (n, h, w, 4).

    flip, hue_free and ink are booleans (n,): may be mirrored, may change hue, is a one-colour drawing.
    """
    n, device = rgba.shape[0], rgba.device
    x = rgba.permute(0, 3, 1, 2).float() / 255
    x = torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], 1)
    x = place(x, size, flip)
    alpha = x[:, 3:].clamp(0, 1)
    straight = (x[:, :3] / alpha.clamp_min(1e-3)).clamp(0, 1)
    rgb = recolour(straight, hue_free) * alpha

    flat = (rgb * 5).round() / 5
    rgb = _pick(~ink & _chance(n, 0.15, device), flat.clamp(max=1) * (alpha > 0.5), rgb)
    back = backgrounds(n, size, device)
    lined, lined_alpha, stroke = outlines(rgb, alpha)
    style = torch.rand(n, device=device)
    draw_lines = ~ink & (style < 0.36)
    rgb, alpha = _pick(draw_lines, lined, rgb), _pick(draw_lines, lined_alpha, alpha)
    lines_only = ~ink & hue_free & (style > 0.95)
    rgb, alpha = _pick(lines_only, torch.zeros_like(rgb), rgb), _pick(lines_only, stroke, alpha)
    pale = draw_lines & hue_free & _chance(n, 0.3, device)
    rgb = _pick(pale, (rgb * 0.5 + 0.5 * alpha) * (1 - stroke), rgb)

    back_luma = luminance(back).mean((2, 3))
    colour = torch.rand(n, 3, device=device) * _uniform(n, 0.1, 1.0, device).view(-1, 1)
    ink_luma = (colour * colour.new_tensor(LUMA)).sum(1, keepdim=True)
    clash = (ink_luma - back_luma).abs() < 0.4
    safe = torch.where(back_luma > 0.5, torch.zeros_like(back_luma), torch.ones_like(back_luma)).expand(n, 3)
    plain_ink = clash | _chance(n, 0.5, device).view(-1, 1)
    colour = torch.where(plain_ink, safe, colour).view(n, 3, 1, 1)
    rgb = _pick(ink | lines_only, colour * alpha, rgb)

    image = rgb + back * (1 - alpha)
    soft = F.interpolate(
        F.interpolate(image, scale_factor=0.4, mode="area"), size=(size, size), mode="bilinear", align_corners=False
    )
    image = _pick(_chance(n, 0.15, device), soft, image)
    blurred = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
    image = _pick(_chance(n, 0.2, device), blurred, image)
    noise = torch.randn(n, 1, size, size, device=device) * _uniform(n, 0.0, 0.08, device).view(-1, 1, 1, 1)
    image = _pick(_chance(n, 0.25, device), image + noise, image).clamp(0, 1)
    hole = torch.rand(n, 2, device=device) * size
    rows = torch.arange(size, device=device).view(1, -1)
    reach = (_uniform(n, 0.05, 0.16, device) * size).view(-1, 1)
    covered = ((rows - hole[:, :1]).abs() < reach).unsqueeze(2) & ((rows - hole[:, 1:]).abs() < reach).unsqueeze(1)
    covered = covered.unsqueeze(1) & _chance(n, 0.15, device).view(-1, 1, 1, 1)
    image = torch.where(covered, torch.rand(n, 3, 1, 1, device=device), image)
    image = _pick(_chance(n, 0.3, device), jpeg(image, _uniform(n, 1.0, 7.0, device)), image)
    return normalise(image)
