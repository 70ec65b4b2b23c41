/* SPDX-License-Identifier: MIT */
/* sosie: the operator's command at the standby. The table of verbs, and how each ends. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/common/stop.h"
#include "tools/common/version.h"
#include "tools/sosie/command.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
/* clang-format off */
#define STORE_OPTION {"store", "STORE", "SOSIE_STORE", false, "folder of the store"}
#define JSON_OPTION {"json", NULL, NULL, false, "print one JSON document"}
/* clang-format on */

static const struct option_spec init_options[] = {JSON_OPTION};
static const struct option_spec store_key_options[] = {JSON_OPTION};
static const struct option_spec head_options[] = {
        STORE_OPTION,
        {"export", "FILE", NULL, false, "write it into FILE instead of printing it"},
        JSON_OPTION};
static const struct option_spec card_options[] = {
        STORE_OPTION,
        {"identity", "FILE.pub", NULL, true, "at the primary: the key that logs in"},
        {"signing", "FILE.pub", NULL, true, "at the primary: the key that signs"},
        JSON_OPTION};
static const struct option_spec check_options[] = {
        STORE_OPTION,
        {"mend", NULL, NULL, false, "set owners, groups and modes (root)"},
        {"sshd-config", "FILE", NULL, false, "sshd's configuration (default: its own)"},
        JSON_OPTION};
static const struct option_spec tenant_options[] = {
        STORE_OPTION,
        {"quota", "SIZE|none", NULL, false, "room for journal and images (K, M, G, T)"},
        {"user", "NAME", NULL, false, "whom its receivers run as (root)"},
        JSON_OPTION};
static const struct option_spec limits_options[] = {STORE_OPTION, JSON_OPTION};
static const struct option_spec alarm_list_options[] = {
        STORE_OPTION, {"all", NULL, NULL, false, "closed ones too"}, JSON_OPTION};
static const struct option_spec alarm_close_options[] = {
        STORE_OPTION, {"reason", "TEXT", NULL, false, "kept with it, and in the audit log"}, JSON_OPTION};
static const struct option_spec key_options[] = {
        STORE_OPTION,
        {"for", "ssh|signing", NULL, false, "what the key is for (default: ssh)"},
        {"group", "GROUP", NULL, true, "only for this group; may be given 64 times"},
        JSON_OPTION};
static const struct option_spec list_options[] = {STORE_OPTION, JSON_OPTION};
static const struct option_spec revoke_options[] = {
        STORE_OPTION, {"reason", "TEXT", NULL, false, "goes into the audit log"}, JSON_OPTION};
static const struct option_spec audit_options[] = {
        STORE_OPTION,
        {"since", "TIME", NULL, false, "2026-11-22, 2026-11-22T03:27:00.000Z, or how long ago: 7d"},
        {"json", NULL, NULL, false, "print a JSON document for each entry, one a line"}};
static const struct option_spec keygen_options[] = {
        {"out", "FILE", NULL, false, "the private half; FILE.pub gets the public one"},
        {"comment", "TEXT", NULL, false, "names the key (default: sosie-signing@HOST)"},
        JSON_OPTION};
static const struct option_spec points_options[] = {
        STORE_OPTION, {"last", "N", NULL, false, "only the newest N"}, JSON_OPTION};
static const struct option_spec verify_options[] = {
        STORE_OPTION,
        {"point", "N|latest", NULL, false, "only what this point needs"},
        {"full", NULL, NULL, false, "read every byte of the images too"},
        {"keys", "FILE", NULL, false, "who must have signed, instead of the store's own word"},
        {"head", "FILE", NULL, false, "an exported head that the chain must still contain"},
        JSON_OPTION};
static const struct option_spec export_options[] = {
        STORE_OPTION,
        {"into", "DIR", NULL, false, "where to; made when missing"},
        {"point", "N|latest", NULL, false, "which point (default: latest)"},
        {"digest", NULL, NULL, false, "read the images again, tell their SHA-256"},
        JSON_OPTION};
static const struct option_spec cutover_options[] = {
        STORE_OPTION,
        {"into", "DIR", NULL, false, "images go there (default: the store)"},
        {"point", "N|latest", NULL, false, "which point (default: latest)"},
        {"yes", NULL, NULL, false, "do not ask for the group's name"},
        {"digest", NULL, NULL, false, "read the images, tell their SHA-256"},
        JSON_OPTION};
static const struct option_spec store_options[] = {STORE_OPTION, JSON_OPTION};
static const struct option_spec pin_options[] = {
        STORE_OPTION,
        {"point", "N|latest", NULL, false, "which point"},
        {"reason", "TEXT", NULL, false, "why, for the audit log and the list"},
        JSON_OPTION};
static const struct option_spec prune_options[] = {
        STORE_OPTION, {"dry-run", NULL, NULL, false, "only say what would go, and why"}, JSON_OPTION};
static const struct option_spec clock_options[] = {
        STORE_OPTION, {"reason", "TEXT", NULL, false, "why, for the audit log"}, JSON_OPTION};
static const struct option_spec status_options[] = {
        STORE_OPTION,
        {"config", "FILE", NULL, false, "of the source: ask the sosied that runs with FILE"},
        {"state", "DIR", NULL, false, "of the source: ask the sosied that has this state folder"},
        {"watch", NULL, NULL, false, "with those two: again every second"},
        JSON_OPTION};

static const struct verb verbs[] = {
        {
                .name = "store init",
                .schema = "store-init",
                .synopsis = "store init STORE [--json]",
                .summary = "make a store",
                .text = "STORE must not exist yet, or be an empty folder; the folder above must exist.\n"
                        "XFS or btrfs let it share blocks between generations; elsewhere it copies.",
                .specs = init_options,
                .spec_count = COUNT(init_options),
                .min = 1,
                .max = 1,
                .operand_names = "STORE",
                .writes = false,
                .interrupted = "remove what was made and start over",
                .run = verb_store_init,
        },
        {
                .name = "store key",
                .schema = "store-key",
                .synopsis = "store key STORE [--json]",
                .summary = "give a store the key that it signs with",
                .text = "A new store has one. One of an older release gets it here; what the keeper accepts\n"
                        "is signed once it was started anew. With a key there it only shows it.",
                .specs = store_key_options,
                .spec_count = COUNT(store_key_options),
                .min = 1,
                .max = 1,
                .operand_names = "STORE",
                .writes = true,
                .interrupted = "the same command goes on",
                .run = verb_store_key,
        },
        {
                .name = "card",
                .schema = "card",
                .synopsis = "card [--store STORE] [--json]\n"
                            "       sosie card --identity FILE.pub --signing FILE.pub [--json]",
                .summary = "what the other side must know of this one",
                .text = "At the standby: the store's id, its key, the host's keys. At the primary: its two\n"
                        "keys. Send the lines any way you like, then read the short fingerprints to each\n"
                        "other over the telephone.",
                .specs = card_options,
                .spec_count = COUNT(card_options),
                .min = 0,
                .max = 0,
                .operand_names = "",
                .interrupted = "nothing was changed",
                .run = verb_card,
        },
        {
                .name = "head",
                .schema = "head",
                .synopsis = "head [--store STORE] TENANT/GROUP [--export FILE] [--json]",
                .summary = "the signed word on where a chain ends",
                .text = "Kept elsewhere, it shows later that history was not rewritten since:\n"
                        "sosie verify --head FILE. Run it as the user that owns the store's key.",
                .specs = head_options,
                .spec_count = COUNT(head_options),
                .min = 1,
                .max = 1,
                .operand_names = "TENANT/GROUP",
                .writes = true,
                .signs = true,
                .interrupted = "nothing was changed",
                .run = verb_head,
        },
        {
                .name = "store check",
                .schema = "store-check",
                .synopsis = "store check [STORE | --store STORE] [--mend] [--sshd-config FILE]\n"
                            "                         [--json]",
                .summary = "find who may do more in a store than is meant",
                .text = "Owners, groups, modes, links and access lists of what is in the store; the users\n"
                        "of receivers and what sshd allows them (as root); what the kernel can confine.\n"
                        "Each finding comes with the command that mends it. Exit 3: something was found.",
                .specs = check_options,
                .spec_count = COUNT(check_options),
                .min = 0,
                .max = 1,
                .operand_names = "STORE",
                .writes = false,
                .interrupted = "the same command can be run again",
                .run = verb_store_check,
        },
        {
                .name = "tenant add",
                .schema = "tenant-add",
                .synopsis = "tenant add [--store STORE] TENANT --quota SIZE|none [--user NAME]\n"
                            "                    [--json]",
                .summary = "add a tenant",
                .text = "A tenant is one customer: its groups, keys and quota are apart from all others.\n"
                        "With --user its receivers run as that user of the system, who reaches its inbox\n"
                        "and its outbox only; given for a tenant that has none, it is set apart then\n"
                        "(no --quota needed). \"none\" for a quota has to be typed.",
                .specs = tenant_options,
                .spec_count = COUNT(tenant_options),
                .min = 1,
                .max = 1,
                .operand_names = "TENANT",
                .writes = true,
                .interrupted = "the same command can be run again",
                .run = verb_tenant_add,
        },
        {
                .name = "tenant set",
                .schema = "tenant-set",
                .synopsis = "tenant set [--store STORE] TENANT KEY=VALUE... [--json]",
                .summary = "change what a tenant may take",
                .text = "quota: bytes in the store. segment: bytes that one segment decodes to.\n"
                        "volume_bytes, volumes: of all groups together. group_volumes: of one group.\n"
                        "groups. points: a minute. cpu: seconds of processor time a minute.\n"
                        "none: no limit; default: that of this release.",
                .specs = limits_options,
                .spec_count = COUNT(limits_options),
                .min = 2,
                .max = 1 + SOSIE_LIMITS,
                .operand_names = "TENANT KEY=VALUE",
                .writes = true,
                .interrupted = "the same command can be run again",
                .run = verb_tenant_set,
        },
        {
                .name = "tenant show",
                .schema = "tenant-show",
                .synopsis = "tenant show [--store STORE] TENANT [--json]",
                .summary = "what a tenant may take, and takes",
                .text = "Its limits, and what counts towards its quota.",
                .specs = limits_options,
                .spec_count = COUNT(limits_options),
                .min = 1,
                .max = 1,
                .operand_names = "TENANT",
                .writes = false,
                .interrupted = "nothing was changed",
                .run = verb_tenant_show,
        },
        {
                .name = "alarm list",
                .schema = "alarm-list",
                .synopsis = "alarm list [--store STORE] [TENANT[/GROUP]] [--all] [--json]",
                .summary = "list what a person has to know",
                .text = "Open alarms of the store, a tenant or a group, and of what is below it.",
                .specs = alarm_list_options,
                .spec_count = COUNT(alarm_list_options),
                .min = 0,
                .max = 1,
                .operand_names = "TENANT/GROUP",
                .writes = false,
                .interrupted = "nothing was changed",
                .run = verb_alarm_list,
        },
        {
                .name = "alarm close",
                .schema = "alarm-close",
                .synopsis = "alarm close [--store STORE] ID [--reason TEXT] [--json]",
                .summary = "close an alarm that was looked into",
                .text = "late and space close by themselves when their cause is over, and not before.",
                .specs = alarm_close_options,
                .spec_count = COUNT(alarm_close_options),
                .min = 1,
                .max = 1,
                .operand_names = "ID",
                .writes = true,
                .interrupted = "the same command can be run again",
                .run = verb_alarm_close,
        },
        {
                .name = "key add",
                .schema = "key-add",
                .synopsis = "key add [--for ssh|signing] [--group GROUP]... [--store STORE]\n"
                            "                     TENANT FILE.pub [--json]",
                .summary = "register a source's key",
                .text = "For SSH: prints the line for authorized_keys, which confines the key to\n"
                        "sosie-receive, its tenant and its groups. For signing: points must be signed by\n"
                        "such a key (ssh-ed25519). The same key can be given again.",
                .specs = key_options,
                .spec_count = COUNT(key_options),
                .min = 2,
                .max = 2,
                .operand_names = "TENANT FILE.pub",
                .writes = true,
                .interrupted = "the same command can be run again",
                .run = verb_key_add,
        },
        {
                .name = "key list",
                .schema = "key-list",
                .synopsis = "key list [--store STORE] TENANT [--json]",
                .summary = "list a tenant's keys, revoked ones too",
                .text = "As the tenant's audit log says, in the order in which they were added first.",
                .specs = list_options,
                .spec_count = COUNT(list_options),
                .min = 1,
                .max = 1,
                .operand_names = "TENANT",
                .writes = false,
                .interrupted = "nothing was changed",
                .run = verb_key_list,
        },
        {
                .name = "key revoke",
                .schema = "key-revoke",
                .synopsis = "key revoke [--store STORE] TENANT KEY [--reason TEXT] [--json]",
                .summary = "take nothing more with a key",
                .text = "KEY: its id, or SHA256:... A source that runs with it is refused at its next\n"
                        "step. Points that are there stay. The same key can be given again, and be\n"
                        "added anew. A signing key waits at most a minute for its groups' locks.",
                .specs = revoke_options,
                .spec_count = COUNT(revoke_options),
                .min = 2,
                .max = 2,
                .operand_names = "TENANT KEY",
                .writes = true,
                .interrupted = "run the same command again",
                .run = verb_key_revoke,
        },
        {
                .name = "audit",
                .schema = "audit",
                .synopsis = "audit [--store STORE] [TENANT] [--since TIME] [--json]",
                .summary = "what was done and decided, with every acceptance",
                .text = "The audit log of the tenant (without one: of all, and the store's own), and the\n"
                        "acceptances and epochs of its groups, in the order of their times. --json: a\n"
                        "document a line, the last one says whether all could be read.",
                .specs = audit_options,
                .spec_count = COUNT(audit_options),
                .min = 0,
                .max = 1,
                .operand_names = "TENANT",
                .writes = false,
                .interrupted = "nothing was changed",
                .run = verb_audit,
        },
        {
                .name = "keygen",
                .schema = "keygen",
                .synopsis = "keygen [--out FILE] [--comment TEXT] [--json]",
                .summary = "make a signing key",
                .text = "Ed25519, in OpenSSH's format and without a passphrase; FILE must not exist.\n"
                        "Without --out: /etc/sosie/signing_ed25519. Needs no store.",
                .specs = keygen_options,
                .spec_count = COUNT(keygen_options),
                .min = 0,
                .max = 0,
                .operand_names = "",
                .writes = false,
                .interrupted = "if the file is not there, run it again",
                .run = verb_keygen,
        },
        {
                .name = "points",
                .schema = "points",
                .synopsis = "points [--store STORE] TENANT/GROUP [--last N] [--json]",
                .summary = "list the recovery points",
                .text = "Oldest first. WHOLE: the digests of all volumes were those that the source named "
                        "when\n"
                        "it was accepted; that says that nothing is missing, not that nothing bad is in it.\n"
                        "BYTES is what the point's segment takes in the journal. KEPT: why it stays.",
                .specs = points_options,
                .spec_count = COUNT(points_options),
                .min = 1,
                .max = 1,
                .operand_names = "TENANT/GROUP",
                .writes = false,
                .interrupted = "nothing was changed",
                .run = verb_points,
        },
        {
                .name = "verify",
                .schema = "verify",
                .synopsis = "verify [--store STORE] TENANT/GROUP [--point N|latest] [--full]\n"
                            "                    [--keys FILE] [--head FILE] [--json]",
                .summary = "check what is kept against digests and signatures",
                .text = "Changes nothing of that, needs no lock, may run beside a keeper. Exit 5: damage\n"
                        "found; an alarm is opened for it where the caller may write.\n"
                        "--keys: lines \"standby ssh-ed25519 ...\" and \"source ssh-ed25519 ...\"; then "
                        "every\n"
                        "entry must be signed by one of these, whatever the store says of itself.",
                .specs = verify_options,
                .spec_count = COUNT(verify_options),
                .min = 1,
                .max = 1,
                .operand_names = "TENANT/GROUP",
                .writes = true, /* an alarm */
                .interrupted = "nothing was changed; the same command starts over",
                .run = verb_verify,
        },
        {
                .name = "export",
                .schema = "export",
                .synopsis = "export [--store STORE] TENANT/GROUP --into DIR [--point N|latest]\n"
                            "                    [--digest] [--json]",
                .summary = "take a point's images out",
                .text = "Makes DIR/VOLUME.raw, and DIR/attachments/NAME when the point has any. DIR lies\n"
                        "outside the store. Overwrites nothing and changes nothing in the store.",
                .specs = export_options,
                .spec_count = COUNT(export_options),
                .min = 1,
                .max = 1,
                .operand_names = "TENANT/GROUP",
                .writes = false,
                .interrupted = "what it had made is removed; the same command starts over",
                .run = verb_export,
        },
        {
                .name = "cutover",
                .schema = "cutover",
                .synopsis = "cutover [--store STORE] TENANT/GROUP [--into DIR]\n"
                            "                     [--point N|latest] [--yes] [--digest] [--json]",
                .summary = "take over a group",
                .text = "Shows the plan, wants the group's name typed (or --yes), raises the epoch so\n"
                        "that the old sender is refused, and puts writable images into the store's live\n"
                        "folder, or DIR. Interrupted anywhere, the same command goes on; done, it says\n"
                        "so. Needs no keeper: what waits whole in the inbox is accepted first.",
                .specs = cutover_options,
                .spec_count = COUNT(cutover_options),
                .min = 1,
                .max = 1,
                .operand_names = "TENANT/GROUP",
                .takes_inbox = true,
                .writes = true,
                .signs = true,
                .interrupted = "nothing has been changed; the same command starts over",
                .run = verb_cutover,
        },
        {
                .name = "status",
                .schema = "status",
                .synopsis = "status [--store STORE] [TENANT/GROUP] [--json]\n"
                            "       sosie status --config FILE | --state DIR [--watch] [--json]",
                .summary = "how the store and its groups stand",
                .text = "Exit 5: an alarm is open, uploads wait without a keeper, something waits, or was\n"
                        "refused after the newest point. Exit 6: some groups cannot be read.\n"
                        "With --config, at the primary: how the groups of sosied stand. Exit 5: one is\n"
                        "late, or needs you. Exit 4: sosied is not running. --state asks it without the\n"
                        "file, as when that was damaged.",
                .specs = status_options,
                .spec_count = COUNT(status_options),
                .min = 0,
                .max = 1,
                .operand_names = "TENANT/GROUP",
                .writes = false,
                .interrupted = "nothing was changed",
                .run = verb_status,
        },
        {
                .name = "policy show",
                .schema = "policy-show",
                .synopsis = "policy show [--store STORE] [TENANT[/GROUP]] [--json]",
                .summary = "which points are kept, and what waits to change that",
                .text = "For the store, a tenant or a group; each value with the level that it comes from.",
                .specs = store_options,
                .spec_count = COUNT(store_options),
                .min = 0,
                .max = 1,
                .operand_names = "TENANT[/GROUP]",
                .writes = false,
                .interrupted = "nothing was changed",
                .run = verb_policy_show,
        },
        {
                .name = "policy set",
                .schema = "policy-set",
                .synopsis = "policy set [--store STORE] [TENANT[/GROUP]] KEY=VALUE... [--json]",
                .summary = "say which points are kept",
                .text = "Keys: floor.all (points of so long), floor.hourly, floor.daily, floor.weekly,\n"
                        "floor.monthly (the newest point of each of so many such periods that have one):\n"
                        "kept whatever comes. wish.all and so on: kept while there is room. rpo: how old "
                        "the\n"
                        "newest point may be. quota (of a tenant), fold_bytes, fold_points. delay: how long\n"
                        "a change waits by which points may go. KEY=inherit takes a value away. Times:\n"
                        "90m, 36h, 30d. With no floor and no wish every point is kept.",
                .specs = store_options,
                .spec_count = COUNT(store_options),
                .min = 1,
                .max = 16,
                .operand_names = "[TENANT[/GROUP]] KEY=VALUE...",
                .writes = true,
                .interrupted = "see \"sosie policy show\" for what holds; the same command can be run again",
                .run = verb_policy_set,
        },
        {
                .name = "policy cancel",
                .schema = "policy-cancel",
                .synopsis = "policy cancel [--store STORE] ID [--json]",
                .summary = "take back a change that waits",
                .text = "\"sosie policy show\" lists them with their IDs.",
                .specs = store_options,
                .spec_count = COUNT(store_options),
                .min = 1,
                .max = 1,
                .operand_names = "ID",
                .writes = true,
                .interrupted = "the same command can be run again",
                .run = verb_policy_cancel,
        },
        {
                .name = "pin list",
                .schema = "pin-list",
                .synopsis = "pin list [--store STORE] [TENANT/GROUP] [--json]",
                .summary = "list the pinned points",
                .text = "Of a group, or of all.",
                .specs = store_options,
                .spec_count = COUNT(store_options),
                .min = 0,
                .max = 1,
                .operand_names = "TENANT/GROUP",
                .writes = false,
                .interrupted = "nothing was changed",
                .run = verb_pin_list,
        },
        {
                .name = "pin",
                .schema = "pin",
                .synopsis = "pin [--store STORE] TENANT/GROUP --point N|latest [--reason TEXT] [--json]",
                .summary = "keep a point until it is unpinned",
                .text = "Whatever the policy says. Pinning again takes back an unpin that waits.",
                .specs = pin_options,
                .spec_count = COUNT(pin_options),
                .min = 1,
                .max = 1,
                .operand_names = "TENANT/GROUP",
                .writes = true,
                .interrupted = "the same command can be run again",
                .run = verb_pin,
        },
        {
                .name = "unpin",
                .schema = "unpin",
                .synopsis = "unpin [--store STORE] TENANT/GROUP --point N [--reason TEXT] [--json]",
                .summary = "let a pinned point go, after the delay",
                .text = "It holds after the policy's delay; until then \"sosie pin\" takes it back.",
                .specs = pin_options,
                .spec_count = COUNT(pin_options),
                .min = 1,
                .max = 1,
                .operand_names = "TENANT/GROUP",
                .writes = true,
                .interrupted = "the same command can be run again",
                .run = verb_unpin,
        },
        {
                .name = "prune",
                .schema = "prune",
                .synopsis = "prune [--store STORE] [TENANT[/GROUP]] [--dry-run] [--json]",
                .summary = "let go of points that the policy does not keep",
                .text = "A running keeper does it by itself each hour, and when room is short. --dry-run\n"
                        "says of each point why it stays or goes, and changes nothing.",
                .specs = prune_options,
                .spec_count = COUNT(prune_options),
                .min = 0,
                .max = 1,
                .operand_names = "TENANT[/GROUP]",
                .writes = true,
                .interrupted = "the same command goes on",
                .run = verb_prune,
        },
        {
                .name = "clock accept",
                .schema = "clock-accept",
                .synopsis = "clock accept [--store STORE] [--reason TEXT] [--json]",
                .summary = "say that the wall clock is right, after it has jumped",
                .text = "Until then nothing is pruned, and no change of a policy takes effect. Look at "
                        "\"date\"\n"
                        "first, and pin the points that must not go.",
                .specs = clock_options,
                .spec_count = COUNT(clock_options),
                .min = 0,
                .max = 0,
                .operand_names = "",
                .writes = true,
                .interrupted = "the same command can be run again",
                .run = verb_clock_accept,
        },
};

static const char exits[] = "Exit: 0 done, 1 failed, 2 usage, 3 refused: needs you, 4 temporary: try again,\n"
                            "      5 done and found something, 6 some done.\n";

static void print_overview(FILE *out)
{
	fprintf(out, "sosie " SOSIE_VERSION ": a running double of volumes, and the cutover to it\n\n");
	for (size_t i = 0; i < COUNT(verbs); i++)
		fprintf(out, "  sosie %-13s %s\n", verbs[i].name, verbs[i].summary);
	fprintf(out, "  sosie %-13s %s\n\n", "replicate", "replicate volumes to a standby (runs sosied)");
	fprintf(out, "sosie VERB --help tells more about a verb; sosie --version; sosie(1).\n%s", exits);
}

static void print_help(const struct verb *v)
{
	printf("Usage: sosie %s\n\n%c%s.\n%s\n\n", v->synopsis, toupper((unsigned char)v->summary[0]),
	       v->summary + 1, v->text);
	options_print(v->specs, v->spec_count);
	printf("\n%s", exits);
}

/* argv from the verb on. *words: how many of them the verb's name takes. */
static const struct verb *find_verb(int argc, char *const *argv, int *words)
{
	for (size_t i = 0; i < COUNT(verbs); i++) {
		const char *space = strchr(verbs[i].name, ' ');
		const size_t first = space ? (size_t)(space - verbs[i].name) : strlen(verbs[i].name);
		if (argc < 1 || strlen(argv[0]) != first || strncmp(argv[0], verbs[i].name, first) != 0)
			continue;
		if (space && (argc < 2 || strcmp(argv[1], space + 1) != 0))
			continue;
		*words = space ? 2 : 1;
		return &verbs[i];
	}
	return NULL;
}

static int report(struct sosie_json *doc, bool json, const struct sosie_err *failure, int code)
{
	char line[1100];
	struct sosie_err err;

	(void)fflush(stdout); /* what was shown comes before what went wrong with it */
	if (json && document_print(doc, failure, &err) < 0) {
		fprintf(stderr, "sosie: %s\n", sosie_err_line(&err, line, sizeof(line)));
		return 1;
	}
	if (!json && failure)
		fprintf(stderr, "sosie: %s\n", sosie_err_line(failure, line, sizeof(line)));
	if (!json && (fflush(stdout) != 0 || ferror(stdout))) {
		fprintf(stderr, "sosie: cannot print the result: %s\n", strerror(errno));
		return 1;
	}
	return code;
}

static void interrupted(const struct command *c, struct sosie_err *err)
{
	sosie_err_set(err, SOSIE_EINTR, "interrupted");
	sosie_err_action(err, "%s", c->interrupted[0] ? c->interrupted : c->verb->interrupted);
}

static int run_verb(const struct verb *v, int argc, char **argv)
{
	static struct command c;
	static struct sosie_err err;
	char command[64];
	int rc;

	c.verb = v;
	c.clock = sosie_clock_real();
	c.json = options_wants_json(argc, argv);
	snprintf(command, sizeof(command), "sosie %s", v->name);
	progress_init(&c.progress, c.clock, stderr, isatty(STDERR_FILENO) != 0, false);
	rc = options_parse(&c.options, command, v->specs, v->spec_count, argc, argv, v->min, v->max,
	                   v->operand_names, &err);
	if (rc == 0 && (c.options.help || c.options.version)) {
		if (c.options.help)
			print_help(v);
		else
			printf("sosie " SOSIE_VERSION "\n");
		options_fini(&c.options);
		return report(NULL, false, NULL, 0);
	}
	if (c.json)
		c.doc = document_new(v->schema);
	if (rc == 0)
		rc = v->run(&c, &err);
	progress_clear(&c.progress);
	command_close(&c);
	if (rc < 0 && stop_wanted())
		interrupted(&c, &err);
	options_fini(&c.options);
	const bool failed = rc < 0 || rc == COMMAND_SOME;
	return report(c.doc, c.json && !c.printed, failed ? &err : NULL,
	              rc < 0 ? sosie_code_exit(err.code) : rc);
}

static int usage(int argc, char **argv)
{
	const bool json = options_wants_json(argc, argv);
	char shown[80];
	struct sosie_err err;

	if (argc == 0)
		sosie_err_set(&err, SOSIE_EUSAGE, "a verb is missing");
	else if (strcmp(argv[0], "policy") == 0)
		sosie_err_set(&err, SOSIE_EUSAGE, "sosie policy needs a second word: show, set or cancel");
	else if (strcmp(argv[0], "clock") == 0)
		sosie_err_set(&err, SOSIE_EUSAGE, "sosie clock needs a second word: sosie clock accept");
	else if (strcmp(argv[0], "store") == 0 || strcmp(argv[0], "tenant") == 0 ||
	         strcmp(argv[0], "key") == 0 || strcmp(argv[0], "alarm") == 0)
		sosie_err_set(&err, SOSIE_EUSAGE, "sosie %s needs a second word: sosie %s %s", argv[0],
		              argv[0],
		              argv[0][0] == 's'   ? "init, key or check"
		              : argv[0][0] == 'k' ? "add, list or revoke"
		              : argv[0][0] == 'a' ? "list or close"
		                                  : "add, set or show");
	else
		sosie_err_set(&err, SOSIE_EUSAGE, "there is no verb \"%s\"",
		              sosie_escape(shown, sizeof(shown), argv[0], strlen(argv[0])));
	sosie_err_action(&err, "see sosie help");
	return report(json ? document_new("usage") : NULL, json, &err, 2);
}

static bool in_group(const struct verb *v, const char *group)
{
	const size_t len = strlen(group);

	return strncmp(v->name, group, len) == 0 && v->name[len] == ' ';
}

/* "store", "tenant", "key": the verbs that begin with it. False when there is none. */
static bool print_group_help(const char *group)
{
	unsigned shown = 0;

	for (size_t i = 0; i < COUNT(verbs); i++)
		if (in_group(&verbs[i], group))
			printf("%s%s\n         %s\n", shown++ ? "       sosie " : "Usage: sosie ",
			       verbs[i].synopsis, verbs[i].summary);
	if (shown > 0)
		printf("\nsosie %s VERB --help tells more. sosie help lists all verbs.\n\n%s", group, exits);
	return shown > 0;
}

static bool wants_help(int argc, char *const *argv)
{
	for (int i = 0; i < argc; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return true;
	return false;
}

static int help(int argc, char **argv)
{
	int words;
	const struct verb *v = find_verb(argc, argv, &words);

	if (argc == 1 && !v && print_group_help(argv[0]))
		return report(NULL, false, NULL, 0);
	if (argc > 0 && !v)
		return usage(argc, argv);
	if (v)
		print_help(v);
	else
		print_overview(stdout);
	return report(NULL, false, NULL, 0);
}

static int replicate(char **argv)
{
	struct sosie_err err;

	(void)replicate_exec(argv, &err);
	return report(NULL, false, &err, sosie_code_exit(err.code));
}

int main(int argc, char **argv)
{
	const struct verb *v;
	int words = 0;

	if (argc >= 2 && strcmp(argv[1], "replicate") == 0)
		return replicate(argv + 1);
	stop_install();
	if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
		printf("sosie " SOSIE_VERSION "\n");
		return report(NULL, false, NULL, 0);
	}
	if (argc >= 2 &&
	    (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
		return help(argc - 2, argv + 2);
	v = find_verb(argc - 1, argv + 1, &words);
	if (!v && argc >= 3 && wants_help(argc - 2, argv + 2) && print_group_help(argv[1]))
		return report(NULL, false, NULL, 0);
	if (!v)
		return usage(argc - 1, argv + 1);
	return run_verb(v, argc - 1 - words, argv + 1 + words);
}
