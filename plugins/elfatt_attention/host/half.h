// IEEE half precision on a CPU: conversions that round to nearest even, as the GPU's do.
#pragma once

#include <cstdint>
#include <cstring>

struct __half {
  std::uint16_t bits;
};

struct __half2 {
  __half x, y;
};

inline float __half2float(__half value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  std::uint32_t exponent = (value.bits >> 10) & 0x1fu, fraction = value.bits & 0x3ffu;
  std::uint32_t bits;
  if (exponent == 0x1f) {
    bits = sign | 0x7f800000u | (fraction << 13);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112) << 23) | (fraction << 13);
  } else {  // zero or subnormal: fraction * 2^-24 is exact in float
    const float small = static_cast<float>(fraction) * 5.9604644775390625e-8f;
    std::memcpy(&bits, &small, sizeof bits);
    bits |= sign;
  }
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

inline __half __float2half_rn(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint16_t sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7fffu)};  // not a number
  if (bits >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};  // 65520 and above
  const int exponent = static_cast<int>(bits >> 23);
  if (exponent < 102) return {sign};  // below 2^-25
  // The value as a whole number of half's steps, and what is cut off.
  const bool normal = exponent >= 113;
  const std::uint32_t mantissa = (bits & 0x7fffffu) | 0x800000u;
  const int shift = normal ? 13 : 126 - exponent;
  std::uint32_t whole = mantissa >> shift;
  const std::uint32_t rest = mantissa & ((1u << shift) - 1u), middle = 1u << (shift - 1);
  if (rest > middle || (rest == middle && (whole & 1u) != 0)) ++whole;
  if (normal) whole += static_cast<std::uint32_t>(exponent - 113) << 10;  // 0x400 is in it already
  return {static_cast<std::uint16_t>(sign | whole)};
}

inline __half2 __floats2half2_rn(float low, float high) {
  return {__float2half_rn(low), __float2half_rn(high)};
}
