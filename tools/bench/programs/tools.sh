# What scripts do all day: many short-lived processes, joined by pipes.
i=0
while [ "$i" -lt "$1" ]; do
    name=$(basename "/usr/share/doc/file$i.txt" .txt)
    line=$(printf '%s\n' "$name" beta alpha | sort | sed -e 's/a/A/g' | tr '\n' ' ' | cut -c1-12)
    printf '%s\n' "$line" | grep -q A && i=$((i + 1))
done
seq 1 "$1"00 | mawk '{ sum += $1 * 7919 % 20011 } END { print sum }'
echo "$line"
