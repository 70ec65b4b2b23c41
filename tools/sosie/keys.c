/* SPDX-License-Identifier: MIT */
/* key list, key revoke: what the audit log says of a tenant's keys, and the end of one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/common/file_limit.h"
#include "tools/sosie/command.h"

void command_groups_json(struct sosie_json *obj, const struct sosie_key *key)
{
	struct sosie_json *groups;

	if (key->group_count == 0)
		sosie_json_set_null(obj, "groups");
	if (key->group_count == 0)
		return;
	groups = sosie_json_add_arr(obj, "groups");
	for (unsigned i = 0; i < key->group_count; i++)
		sosie_json_push_str(groups, key->groups[i].s);
}

static const char *use_name(const struct sosie_key *key)
{
	return key->use == SOSIE_KEY_SIGNING ? "signing" : "ssh";
}

static void key_json(struct sosie_json *list, const struct sosie_key *key)
{
	struct sosie_json *obj = sosie_json_push_obj(list);

	sosie_json_set_str(obj, "key", key->info.id);
	sosie_json_set_str(obj, "for", use_name(key));
	sosie_json_set_str(obj, "type", key->info.type);
	sosie_json_set_str(obj, "fingerprint", key->info.fingerprint);
	sosie_json_set_str(obj, "comment", key->info.comment);
	sosie_json_set_str(obj, "blob", key->info.blob);
	command_groups_json(obj, key);
	sosie_json_set_time(obj, "added_time", key->added_ms);
	sosie_json_set_time(obj, "revoked_time", key->revoked_ms);
}

static void show_key(const struct sosie_key *key)
{
	char added[COMMAND_TIME], revoked[COMMAND_TIME], comment[4 * sizeof(key->info.comment)];

	printf("%s  %-7s  %-23s  %s  %s%s", key->info.id, use_name(key), command_time(added, key->added_ms),
	       key->info.fingerprint, key->info.type, key->info.comment[0] ? " " : "");
	printf("%s\n", sosie_escape(comment, sizeof(comment), key->info.comment, strlen(key->info.comment)));
	for (unsigned i = 0; i < key->group_count; i++)
		printf("%s%s%s", i ? ", " : "                  only for: ", key->groups[i].s,
		       i + 1 == key->group_count ? "\n" : "");
	if (key->revoked_ms)
		printf("                  REVOKED  %s\n", command_time(revoked, key->revoked_ms));
}

int verb_key_list(struct command *c, struct sosie_err *err)
{
	struct sosie_tenant_info info;
	struct sosie_key *keys = NULL;
	struct sosie_json *list;
	unsigned count = 0;
	int rc = sosie_name_set(&c->tenant, SOSIE_NAME_TENANT, c->options.operands[0], err);

	if (rc == 0)
		rc = command_open_store(c, err);
	if (rc == 0) /* names a tenant that is not there */
		rc = sosie_tenant_info(c->store, c->tenant.s, &info, err);
	if (rc == 0)
		rc = sosie_keys(c->store, c->tenant.s, &keys, &count, err);
	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_json_set_str(c->doc, "tenant", c->tenant.s);
	list = sosie_json_add_arr(c->doc, "keys");
	for (unsigned i = 0; i < count; i++)
		if (c->json)
			key_json(list, &keys[i]);
		else
			show_key(&keys[i]);
	if (count == 0 && !c->json)
		printf("The tenant %s has no key. Next: sosie key add --store %s %s FILE.pub\n", c->tenant.s,
		       c->store_path, c->tenant.s);
	free(keys);
	return 0;
}

int verb_key_revoke(struct command *c, struct sosie_err *err)
{
	const char *id = c->options.operands[1];
	char shown[80];
	int rc = sosie_name_set(&c->tenant, SOSIE_NAME_TENANT, c->options.operands[0], err);

	if (rc == 0)
		rc = command_open_store(c, err);
	file_limit_raise(); /* a lock for each group that a signing key is for */
	if (rc == 0)
		rc = sosie_key_revoke(c->store, c->tenant.s, id, options_get(&c->options, "reason"), err);
	if (rc < 0)
		return rc;
	sosie_json_set_str(c->doc, "store", c->store_path);
	sosie_json_set_str(c->doc, "tenant", c->tenant.s);
	sosie_json_set_str(c->doc, "key", id);
	if (c->json)
		return 0;
	printf("Revoked the key %s of the tenant %s: nothing more is taken with it\n",
	       sosie_escape(shown, sizeof(shown), id, strlen(id)), c->tenant.s);
	printf("Next, for an SSH key: take its line out of ~/.ssh/authorized_keys\n");
	return 0;
}
