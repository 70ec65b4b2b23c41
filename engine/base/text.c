/* SPDX-License-Identifier: MIT */
/* Text that is fit for a terminal and a journal: UTF-8 (RFC 3629) without control characters, all else
 * escaped. */
#include <stdint.h>
#include <string.h>

#include "engine/base/text.h"
#include "sosie/err.h"

static const char hex_digits[] = "0123456789abcdef";

static bool is_continuation(uint8_t b)
{
	return (b & 0xc0u) == 0x80u;
}

/* Length of the sequence at s when it may be shown as it is, else 0. Reads no further than the final NUL. */
static size_t shown_sequence(const uint8_t *s)
{
	if (s[0] < 0x80u)
		return s[0] >= 0x20u && s[0] != 0x7fu ? 1 : 0;
	if (s[0] >= 0xc2u && s[0] <= 0xdfu)
		return is_continuation(s[1]) && !(s[0] == 0xc2u && s[1] < 0xa0u) ? 2 : 0;
	if (s[0] >= 0xe0u && s[0] <= 0xefu) {
		if (!is_continuation(s[1]) || !is_continuation(s[2]))
			return 0;
		bool too_long = s[0] == 0xe0u && s[1] < 0xa0u;
		bool surrogate = s[0] == 0xedu && s[1] >= 0xa0u;
		return too_long || surrogate ? 0 : 3;
	}
	if (s[0] >= 0xf0u && s[0] <= 0xf4u) {
		if (!is_continuation(s[1]) || !is_continuation(s[2]) || !is_continuation(s[3]))
			return 0;
		bool too_long = s[0] == 0xf0u && s[1] < 0x90u;
		bool too_high = s[0] == 0xf4u && s[1] >= 0x90u;
		return too_long || too_high ? 0 : 4;
	}
	return 0;
}

static void put_escaped(char dst[4], uint8_t byte)
{
	dst[0] = '\\';
	dst[1] = 'x';
	dst[2] = hex_digits[byte >> 4];
	dst[3] = hex_digits[byte & 15u];
}

size_t sosie_text_clean(char *dst, size_t size, const char *src)
{
	const uint8_t *s = (const uint8_t *)src;
	size_t at = 0;

	while (*s) {
		size_t n = shown_sequence(s);
		size_t room = size - 1 - at;
		if (room < (n ? n : 4))
			break;
		if (n) {
			memcpy(dst + at, s, n);
			at += n;
			s += n;
		} else {
			put_escaped(dst + at, *s++);
			at += 4;
		}
	}
	dst[at] = '\0';
	return at;
}

const char *sosie_escape(char *dst, size_t size, const void *src, size_t len)
{
	const uint8_t *s = src;
	size_t at = 0;

	if (size == 0)
		return dst;
	for (size_t i = 0; i < len; i++) {
		bool shown = s[i] >= 0x20u && s[i] < 0x7fu && s[i] != '\\';
		if (size - 1 - at < (shown ? 1u : 4u))
			break;
		if (shown) {
			dst[at++] = (char)s[i];
		} else {
			put_escaped(dst + at, s[i]);
			at += 4;
		}
	}
	dst[at] = '\0';
	return dst;
}
