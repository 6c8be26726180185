use strict;
use warnings;

my ($rounds) = @ARGV;
my $result = 0;
for my $round (1 .. $rounds) {
    my (%count, @lines);
    my $state = 4711 + $round;
    for (1 .. 3000) {
        $state = ($state * 69069 + 1) % 4294967296;
        push @lines, sprintf("%05d host%d GET /page/%d?q=%x", $_, $state % 17, ($state >> 8) % 211, $state >> 12);
    }
    for (@lines) {
        next unless m{^(\d+) (host\d+) GET /page/(\d+)\?q=([0-9a-f]+)$};
        $count{$2}{$3} += hex($4) & 15;
        s/host(\d)/node-$1/g;
        $result += length;
    }
    for my $host (sort keys %count) {
        my @pages = sort { $count{$host}{$b} <=> $count{$host}{$a} || $a <=> $b } keys %{ $count{$host} };
        $result += $pages[0] + @pages;
    }
    $result += () = join(",", map { $_ * 3 } grep { $_ % 7 } 1 .. 2000) =~ /1[0-4]/g;
}
print "$result\n";
