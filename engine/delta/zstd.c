/* SPDX-License-Identifier: MIT */
/*
 * zstd, confined (docs/format.md, "Segment"; frame header: RFC 8878, 3.1.1.1). The frame header is read here
 * and not by the library: its stable interface tells neither window nor reserved bits, and its limit on
 * windows does not hold where a frame is decoded in one go.
 */
#include <assert.h>
#include <stdlib.h>

#include <zstd.h>
#include <zstd_errors.h>

#include "engine/delta/zstd.h"
#include "sosie/bytes.h"

struct zstd_packer {
	ZSTD_CCtx *ctx;
	int level;
};

struct zstd_unpacker {
	ZSTD_DCtx *ctx;
};

/* --- packing
 * --------------------------------------------------------------------------------------------------- */

/* 0 is zstd's name for its default, which may change. */
static bool level_possible(int level)
{
	return level >= -7 && level <= 19 && level != 0;
}

int zstd_packer_new(int level, struct zstd_packer **out, struct sosie_err *err)
{
	struct zstd_packer *p = malloc(sizeof(*p));

	*out = NULL;
	if (!level_possible(level)) {
		free(p);
		return sosie_err_set(err, SOSIE_ECONFIG, "zstd level %d: -7 to -1 and 1 to 19 are possible",
		                     level);
	}
	if (p)
		*p = (struct zstd_packer){.ctx = ZSTD_createCCtx(), .level = level};
	if (!p || !p->ctx) {
		free(p);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a zstd encoder");
	}
	*out = p;
	return 0;
}

void zstd_packer_level(struct zstd_packer *p, int level)
{
	assert(level_possible(level));
	p->level = level;
}

void zstd_packer_free(struct zstd_packer *p)
{
	if (!p)
		return;
	ZSTD_freeCCtx(p->ctx);
	free(p);
}

static size_t set_up(const struct zstd_packer *p)
{
	size_t rc = ZSTD_CCtx_reset(p->ctx, ZSTD_reset_session_and_parameters);

	if (!ZSTD_isError(rc))
		rc = ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_compressionLevel, p->level);
	if (!ZSTD_isError(rc))
		rc = ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_windowLog, ZSTD_FRAME_WINDOW_LOG);
	if (!ZSTD_isError(rc))
		rc = ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_contentSizeFlag, 1);
	if (!ZSTD_isError(rc))
		rc = ZSTD_CCtx_setParameter(p->ctx, ZSTD_c_checksumFlag, 0);
	return rc;
}

int zstd_pack(struct zstd_packer *p, const void *plain, size_t plain_len, void *dst, size_t room, size_t *len,
              struct sosie_err *err)
{
	size_t rc = set_up(p);

	*len = 0;
	if (!ZSTD_isError(rc))
		rc = ZSTD_compress2(p->ctx, dst, room, plain, plain_len);
	if (!ZSTD_isError(rc)) {
		*len = rc;
		return 0;
	}
	switch (ZSTD_getErrorCode(rc)) {
	case ZSTD_error_dstSize_tooSmall:
		return 0;
	case ZSTD_error_memory_allocation:
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for zstd at level %d", p->level);
	default:
		return sosie_err_set(err, SOSIE_EINTERNAL, "zstd cannot encode: %s", ZSTD_getErrorName(rc));
	}
}

/* --- unpacking
 * ------------------------------------------------------------------------------------------------- */

int zstd_unpacker_new(struct zstd_unpacker **out, struct sosie_err *err)
{
	struct zstd_unpacker *u = malloc(sizeof(*u));

	*out = NULL;
	if (u)
		u->ctx = ZSTD_createDCtx();
	if (!u || !u->ctx) {
		free(u);
		return sosie_err_set(err, SOSIE_ENOMEM, "no memory for a zstd decoder");
	}
	*out = u;
	return 0;
}

void zstd_unpacker_free(struct zstd_unpacker *u)
{
	if (!u)
		return;
	ZSTD_freeDCtx(u->ctx);
	free(u);
}

struct frame_header {
	uint64_t window, content;
};

static uint64_t content_size(struct sosie_reader *r, unsigned flag)
{
	switch (flag) {
	case 0:
		return sosie_get_u8(r);
	case 1:
		return 256u + sosie_get_u16(r);
	case 2:
		return sosie_get_u32(r);
	default:
		return sosie_get_u64(r);
	}
}

static int read_frame_header(const void *frame, size_t len, struct frame_header *h, struct sosie_err *err)
{
	struct sosie_reader r;
	uint32_t magic;
	unsigned flags, single;

	sosie_reader_init(&r, frame, len);
	magic = sosie_get_u32(&r);
	flags = sosie_get_u8(&r);
	single = flags >> 5 & 1;
	if (r.failed || magic != ZSTD_MAGICNUMBER)
		return sosie_err_set(err, SOSIE_ECORRUPT, "payload is not a zstd frame");
	if (flags & 0x1b) /* dictionary id (2 bits), reserved, unused */
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "zstd frame asks for a dictionary or has a reserved bit set");
	if (!single && flags >> 6 == 0)
		return sosie_err_set(err, SOSIE_ECORRUPT, "zstd frame does not say its content size");
	h->window = 0;
	if (!single) {
		unsigned descriptor = sosie_get_u8(&r);
		uint64_t base = UINT64_C(1) << (10 + (descriptor >> 3));

		h->window = base + base / 8 * (descriptor & 7);
	}
	h->content = content_size(&r, flags >> 6);
	if (single)
		h->window = h->content;
	return r.failed ? sosie_err_set(err, SOSIE_ECORRUPT, "zstd frame ends inside its header") : 0;
}

static int check_frame(const void *frame, size_t len, size_t plain_len, struct sosie_err *err)
{
	struct frame_header h = {0};
	size_t whole;
	int rc = read_frame_header(frame, len, &h, err);

	if (rc != 0)
		return rc;
	if (h.content != plain_len)
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "zstd frame says %llu bytes of content, its record %zu",
		                     (unsigned long long)h.content, plain_len);
	if (h.window > UINT64_C(1) << ZSTD_FRAME_WINDOW_LOG)
		return sosie_err_set(err, SOSIE_ECORRUPT,
		                     "zstd frame wants a window of %llu bytes: at most 1 MiB",
		                     (unsigned long long)h.window);
	whole = ZSTD_findFrameCompressedSize(frame, len);
	if (ZSTD_isError(whole))
		return sosie_err_set(err, SOSIE_ECORRUPT, "zstd frame is damaged or cut short");
	if (whole != len)
		return sosie_err_set(err, SOSIE_ECORRUPT, "%zu bytes stand behind the zstd frame",
		                     len - whole);
	return 0;
}

int zstd_unpack(struct zstd_unpacker *u, const void *frame, size_t len, void *dst, size_t plain_len,
                struct sosie_err *err)
{
	size_t rc;
	int checked = check_frame(frame, len, plain_len, err);

	if (checked != 0)
		return checked;
	rc = ZSTD_DCtx_reset(u->ctx, ZSTD_reset_session_and_parameters);
	if (!ZSTD_isError(rc))
		rc = ZSTD_DCtx_setParameter(u->ctx, ZSTD_d_windowLogMax, ZSTD_FRAME_WINDOW_LOG);
	if (!ZSTD_isError(rc))
		rc = ZSTD_decompressDCtx(u->ctx, dst, plain_len, frame, len);
	if (ZSTD_isError(rc))
		return sosie_err_set(err, SOSIE_ECORRUPT, "zstd frame is damaged: %s", ZSTD_getErrorName(rc));
	if (rc != plain_len)
		return sosie_err_set(err, SOSIE_ECORRUPT, "zstd frame holds %zu bytes, its record says %zu",
		                     rc, plain_len);
	return 0;
}
