/* SPDX-License-Identifier: MIT */
/*
 * The half of decoding that hostile bytes steer: a record's payload becomes content. What it gives is not
 * known to be right: the digests tell (record_judge in record.h). At the standby it runs in a disposable
 * child (engine/store/confined.h), therefore it needs neither ranges nor digests, only lengths.
 *
 * One object belongs to one thread. Nothing is allocated or sized by what is unpacked.
 */
#ifndef SOSIE_DELTA_UNPACK_H
#define SOSIE_DELTA_UNPACK_H

#include "sosie/segment.h"

struct packed {
	enum sosie_record_kind kind; /* data, patch, delta or attachment */
	unsigned encoding;
	const void *payload, *basis; /* basis: of a patch or delta */
	size_t payload_len, basis_len;
	size_t plain_len; /* what must come out, 1 byte to 1 MiB */
};

struct unpacker;
int unpacker_new(struct unpacker **out, struct sosie_err *err);
void unpacker_free(struct unpacker *u); /* NULL is fine */
/* SOSIE_ECORRUPT when it is damaged or makes another number of bytes than plain_len; plain may then hold part
 * of it. SOSIE_EINTERNAL for a patch or delta without its basis. */
int unpacker_run(struct unpacker *u, const struct packed *p, void *plain, struct sosie_err *err);

/* Whether the record's payload is anything else than its content as it is. */
bool record_is_packed(const struct sosie_record *r);

#endif
