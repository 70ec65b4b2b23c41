/* SPDX-License-Identifier: MIT */
/* Looks at what stands in a group's folders, for status and cutover. */
#ifndef SOSIE_STORE_STATUS_H
#define SOSIE_STORE_STATUS_H

#include "engine/store/internal.h"

/* Fills in uploads_open, uploads_committed, inbox_bytes, waiting. A group without an inbox has none. */
int status_inbox(struct sosie_group *g, struct sosie_group_status *out, struct sosie_err *err);
/* The time of the newest valid "same", noted or in the inbox, 0: none (same.c). */
int64_t status_same(struct sosie_group *g);
/* Refuses a folder for images that lies in the store, where only the store's own files may be. */
int status_outside(const struct sosie_store *store, const char *path, struct sosie_err *err);

#endif
