/* SPDX-License-Identifier: MIT */
/* Bounded readers and writers, checked sums, hexadecimal. Every length is compared with what is left before
 * it is used. */
#include <string.h>

#include "sosie/bytes.h"

void sosie_reader_init(struct sosie_reader *r, const void *data, size_t len)
{
	r->at = data;
	r->left = len;
	r->failed = false;
}

const void *sosie_get_view(struct sosie_reader *r, size_t len)
{
	static const uint8_t nothing[1];
	const uint8_t *at = r->at ? r->at : nothing;

	if (r->failed || len > r->left) {
		r->failed = true;
		return NULL;
	}
	if (len > 0)
		r->at += len;
	r->left -= len;
	return at;
}

void sosie_get_bytes(struct sosie_reader *r, void *dst, size_t len)
{
	const void *src = sosie_get_view(r, len);

	if (len == 0)
		return;
	if (src)
		memcpy(dst, src, len);
	else
		memset(dst, 0, len);
}

static uint64_t get_little_endian(struct sosie_reader *r, unsigned len)
{
	const uint8_t *b = sosie_get_view(r, len);
	uint64_t v = 0;

	for (unsigned i = 0; b && i < len; i++)
		v |= (uint64_t)b[i] << (8 * i);
	return v;
}

uint8_t sosie_get_u8(struct sosie_reader *r)
{
	return (uint8_t)get_little_endian(r, 1);
}

uint16_t sosie_get_u16(struct sosie_reader *r)
{
	return (uint16_t)get_little_endian(r, 2);
}

uint32_t sosie_get_u32(struct sosie_reader *r)
{
	return (uint32_t)get_little_endian(r, 4);
}

uint64_t sosie_get_u64(struct sosie_reader *r)
{
	return get_little_endian(r, 8);
}

const void *sosie_get_blob(struct sosie_reader *r, size_t max, size_t *len)
{
	size_t n = sosie_get_u32(r);
	const void *view;

	*len = 0;
	if (n > max)
		r->failed = true;
	view = sosie_get_view(r, n);
	if (view)
		*len = n;
	return view;
}

uint32_t sosie_get_ssh_u32(struct sosie_reader *r)
{
	uint8_t b[4];

	sosie_get_bytes(r, b, sizeof(b));
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

const void *sosie_get_ssh_string(struct sosie_reader *r, size_t *len)
{
	size_t n = sosie_get_ssh_u32(r);
	const void *view = sosie_get_view(r, n);

	*len = view ? n : 0;
	return view;
}

void sosie_get_string(struct sosie_reader *r, char *dst, size_t max)
{
	size_t len;
	const void *src = sosie_get_blob(r, max, &len);

	if (src && len > 0 && memchr(src, 0, len)) {
		r->failed = true;
		src = NULL;
	}
	if (!src)
		len = 0;
	else if (len > 0)
		memcpy(dst, src, len);
	dst[len] = '\0';
}

bool sosie_reader_done(const struct sosie_reader *r)
{
	return !r->failed && r->left == 0;
}

void sosie_writer_init(struct sosie_writer *w, void *data, size_t size)
{
	w->start = data;
	w->len = 0;
	w->size = size;
	w->failed = false;
}

void sosie_put_bytes(struct sosie_writer *w, const void *src, size_t len)
{
	if (w->failed || len > w->size - w->len) {
		w->failed = true;
		return;
	}
	if (len > 0)
		memcpy(w->start + w->len, src, len);
	w->len += len;
}

static void put_little_endian(struct sosie_writer *w, uint64_t v, unsigned len)
{
	uint8_t b[8];

	for (unsigned i = 0; i < len; i++)
		b[i] = (uint8_t)(v >> (8 * i));
	sosie_put_bytes(w, b, len);
}

void sosie_put_u8(struct sosie_writer *w, uint8_t v)
{
	put_little_endian(w, v, 1);
}

void sosie_put_u16(struct sosie_writer *w, uint16_t v)
{
	put_little_endian(w, v, 2);
}

void sosie_put_u32(struct sosie_writer *w, uint32_t v)
{
	put_little_endian(w, v, 4);
}

void sosie_put_u64(struct sosie_writer *w, uint64_t v)
{
	put_little_endian(w, v, 8);
}

void sosie_put_blob(struct sosie_writer *w, const void *src, size_t len)
{
	if (len > UINT32_MAX) {
		w->failed = true;
		return;
	}
	sosie_put_u32(w, (uint32_t)len);
	sosie_put_bytes(w, src, len);
}

void sosie_put_string(struct sosie_writer *w, const char *s)
{
	sosie_put_blob(w, s, strlen(s));
}

void sosie_put_ssh_u32(struct sosie_writer *w, uint32_t v)
{
	const uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

	sosie_put_bytes(w, b, sizeof(b));
}

void sosie_put_ssh_string(struct sosie_writer *w, const void *src, size_t len)
{
	if (len > UINT32_MAX) {
		w->failed = true;
		return;
	}
	sosie_put_ssh_u32(w, (uint32_t)len);
	sosie_put_bytes(w, src, len);
}

bool sosie_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}

bool sosie_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}

void sosie_hex(char *dst, const void *src, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *s = src;

	for (size_t i = 0; i < len; i++) {
		dst[2 * i] = digits[s[i] >> 4];
		dst[2 * i + 1] = digits[s[i] & 15u];
	}
	dst[2 * len] = '\0';
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

bool sosie_unhex(void *dst, size_t len, const char *hex)
{
	uint8_t *d = dst;

	for (size_t i = 0; i < len; i++) {
		int high = digit_value(hex[2 * i]);
		int low = high < 0 ? -1 : digit_value(hex[2 * i + 1]);
		if (low < 0)
			return false;
		d[i] = (uint8_t)(high * 16 + low);
	}
	return hex[2 * len] == '\0';
}
