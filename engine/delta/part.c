/* SPDX-License-Identifier: MIT */
/* The digests that bind a segment together: group context, part chain (docs/format.md, "Digests"). */
#include "sosie/bytes.h"
#include "sosie/segment.h"

void sosie_context_group(struct sosie_hash *h, const char *tenant, const char *group,
                         struct sosie_digest *out)
{
	sosie_hash_start(h, "sosie group v1");
	sosie_hash_add_text(h, tenant);
	sosie_hash_add_text(h, group);
	sosie_hash_end(h, out);
}

void sosie_part_start(struct sosie_hash *h, const struct sosie_digest *group_ctx, uint32_t part,
                      struct sosie_digest *chain)
{
	uint8_t index[4];
	struct sosie_writer w;

	sosie_writer_init(&w, index, sizeof(index));
	sosie_put_u32(&w, part);
	sosie_hash_start(h, "sosie part v1");
	sosie_hash_add(h, group_ctx->b, sizeof(group_ctx->b));
	sosie_hash_add(h, index, sizeof(index));
	sosie_hash_end(h, chain);
}

void sosie_part_link(struct sosie_hash *h, const void *record, size_t len, struct sosie_digest *chain)
{
	sosie_hash_start(h, "sosie link v1");
	sosie_hash_add(h, chain->b, sizeof(chain->b));
	sosie_hash_add(h, record, len);
	sosie_hash_end(h, chain);
}
