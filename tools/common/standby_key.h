/* SPDX-License-Identifier: MIT */
/* The standby's own key: made beside the store, opened to sign. */
#ifndef TOOLS_COMMON_STANDBY_KEY_H
#define TOOLS_COMMON_STANDBY_KEY_H

#include "sosie/sign.h"
#include "sosie/store.h"

/* Makes STORE/_private/standby and STORE/standby.pub where they are not. *made: they were made now. A private
 * half without its public one (an interrupted call) is finished. */
int standby_key_make(struct sosie_io *io, const char *store, struct sosie_public *out, bool *made,
                     struct sosie_err *err);
/* Opens the signer and gives it to the store. *out NULL: the store has no key, and signs nothing. The private
 * half: STORE/_private/standby, or without that file the agent, for STORE/standby.pub. Close *out after the
 * store. */
int standby_key_open(struct sosie_store *store, struct sosie_signer **out, struct sosie_err *err);

#endif
